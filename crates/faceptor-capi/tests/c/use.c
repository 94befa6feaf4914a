/* Uses every function as the header says: `use PHOTO RGB WIDTH HEIGHT` prints the JSON of the photo and of the pixels. */
#include <faceptor.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "use.c:%d: %s (%s)\n", __LINE__, #condition, faceptor_last_error()); \
            exit(1); \
        } \
    } while (0)

static unsigned char *read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    unsigned char *bytes;
    CHECK(file != NULL);
    CHECK(fseek(file, 0, SEEK_END) == 0);
    *size = (size_t)ftell(file);
    rewind(file);
    bytes = malloc(*size);
    CHECK(bytes != NULL && fread(bytes, 1, *size, file) == *size);
    fclose(file);
    return bytes;
}

static void check_face(const faceptor_result *result, const faceptor_image *image)
{
    const uint32_t all = FACEPTOR_HAS_LANDMARKS | FACEPTOR_HAS_PARSING | FACEPTOR_HAS_AGE | FACEPTOR_HAS_EXPRESSION |
                         FACEPTOR_HAS_ATTRIBUTES | FACEPTOR_HAS_RECOGNITION;
    faceptor_face face;
    float sum = 0;
    size_t index, inside = 0, pixels = (size_t)image->width * image->height;
    uint8_t *mask = malloc(pixels);
    memset(&face, 0, sizeof face);
    face.struct_size = sizeof face;
    CHECK(faceptor_result_count(result) == 1);
    CHECK(faceptor_result_face(result, 0, &face) == FACEPTOR_OK);
    CHECK(face.id == 1 && face.results == all && face.trusted && face.score > 0.5f);
    CHECK(face.landmark_count == 68 && face.landmarks[30][0] > face.box[0] && face.landmarks[30][1] > face.box[1]);
    CHECK(face.parsing_count == 19 && strcmp(face.parsing_classes[13], "hair") == 0 && face.parsing_classes[19] == NULL);
    for (index = 0; index < face.expression_count; index++) sum += face.expression_scores[index];
    CHECK(fabsf(sum - 1) < 0.001f && strcmp(face.expression_labels[face.expression_best], "happiness") == 0);
    CHECK(face.attribute_count == 40 && face.attribute_labels[40] == NULL);
    for (index = 0, sum = 0; index < face.embedding_count; index++) sum += face.embedding[index] * face.embedding[index];
    CHECK(fabsf(sum - 1) < 0.001f);
    CHECK(mask != NULL && faceptor_result_mask(result, 0, mask, pixels) == FACEPTOR_OK);
    for (index = 0; index < pixels; index++) inside += mask[index] != 255;
    CHECK(inside > 0 && inside < pixels);
    free(mask);
}

int main(int count, char **arguments)
{
    faceptor_options options;
    faceptor_analyzer *analyzer = NULL;
    faceptor_tracker *tracker = NULL;
    faceptor_result *by_path = NULL, *by_content = NULL, *by_pixels = NULL, *reversed = NULL, *frame = NULL;
    faceptor_image image;
    faceptor_face face;
    size_t size, index;
    unsigned char *content, *pixels;

    CHECK(count == 5);
    CHECK(faceptor_abi_version() == FACEPTOR_ABI_VERSION && strlen(faceptor_version()) >= 5);
    CHECK(faceptor_options_init(&options) == FACEPTOR_OK);
    options.tasks = "all";
    options.looks = 1;
    CHECK(faceptor_analyzer_new(&options, &analyzer) == FACEPTOR_OK);
    CHECK(faceptor_analyze_file(analyzer, arguments[1], &by_path) == FACEPTOR_OK);
    content = read_file(arguments[1], &size);
    CHECK(faceptor_analyze_encoded(analyzer, content, size, &by_content) == FACEPTOR_OK);
    free(content);

    memset(&image, 0, sizeof image);
    image.struct_size = sizeof image;
    image.width = (uint32_t)atoi(arguments[3]);
    image.height = (uint32_t)atoi(arguments[4]);
    pixels = read_file(arguments[2], &image.size);
    image.data = pixels;
    CHECK(faceptor_analyze(analyzer, &image, &by_pixels) == FACEPTOR_OK);
    check_face(by_pixels, &image);
    puts(faceptor_result_json(by_path));
    puts(faceptor_result_json(by_content));
    puts(faceptor_result_json(by_pixels));
    CHECK(faceptor_result_json(by_pixels) == faceptor_result_json(by_pixels));

    /* A tracker outlives its analyzer, and results outlive both. */
    CHECK(faceptor_tracker_new(analyzer, 2, &tracker) == FACEPTOR_OK);
    for (index = 0; index + 2 < image.size; index += 3) {
        unsigned char red = pixels[index];
        pixels[index] = pixels[index + 2];
        pixels[index + 2] = red;
    }
    image.format = FACEPTOR_BGR;
    CHECK(faceptor_analyze(analyzer, &image, &reversed) == FACEPTOR_OK);
    puts(faceptor_result_json(reversed));
    faceptor_analyzer_free(analyzer);
    for (index = 0; index < 3; index++) {
        CHECK(faceptor_tracker_update(tracker, &image, 0.04, &frame) == FACEPTOR_OK);
        face.struct_size = sizeof face;
        CHECK(faceptor_result_face(frame, 0, &face) == FACEPTOR_OK && face.id == 1);
        if (index < 2) faceptor_result_free(frame);
    }
    CHECK(faceptor_tracker_cut(tracker) == FACEPTOR_OK);
    faceptor_tracker_free(tracker);
    free(pixels);
    CHECK(faceptor_result_count(frame) == 1 && strstr(faceptor_result_json(frame), "\"frame\":2") != NULL);
    faceptor_result_free(frame);
    faceptor_result_free(reversed);
    faceptor_result_free(by_pixels);
    faceptor_result_free(by_content);
    faceptor_result_free(by_path);
    return 0;
}
