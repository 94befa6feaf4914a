/* What the header does not allow: `misuse ROUNDS`. Every call returns a status and a message; nothing crashes. */
#include <faceptor.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures = 0;

static void expect(int line, faceptor_status status, faceptor_status wanted, const char *words)
{
    const char *message = faceptor_last_error();
    if (status != wanted || (words != NULL && strstr(message, words) == NULL)) {
        fprintf(stderr, "misuse.c:%d: status %u, not %u: %s\n", line, (unsigned)status, (unsigned)wanted, message);
        failures++;
    }
}
#define EXPECT(call, wanted, words) expect(__LINE__, (call), (wanted), (words))

static uint32_t state = 1;

static uint32_t random_number(void)
{
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

/* Numbers near the limits are more telling than others. */
static uint32_t random_size(void)
{
    static const uint32_t sizes[] = {0, 1, 2, 3, 5, 16, 17, 63, 64, 0x7fffffff, 0x80000000u, 0xffffffffu};
    return random_number() % 3 ? random_number() % 70 : sizes[random_number() % (sizeof sizes / sizeof *sizes)];
}

static void fuzz(faceptor_analyzer *analyzer, faceptor_tracker *tracker, long rounds)
{
    static uint8_t memory[20000];
    long round;
    size_t index, found = 0;
    for (index = 0; index < sizeof memory; index++) memory[index] = (uint8_t)random_number();
    for (round = 0; round < rounds; round++) {
        faceptor_image image;
        faceptor_result *result = NULL;
        faceptor_status status;
        image.struct_size = random_number() % 8 ? sizeof image : random_size();
        image.data = random_number() % 16 ? memory + random_number() % 64 : NULL;
        image.size = random_number() % 8 ? sizeof memory - 64 : random_number() % 4000;
        image.stride = random_number() % 2 ? 0 : random_number() % 8 ? random_size() : (size_t)-1 - random_size();
        image.width = random_size();
        image.height = random_size();
        image.format = random_number() % 16 ? random_number() % 9 : random_number();
        image.colour = random_number() % 16 ? random_number() % 5 : random_number();
        switch (random_number() % 4) {
        case 0: status = faceptor_analyze_aligned(analyzer, &image, &result); break;
        case 1: status = faceptor_tracker_update(tracker, &image, (double)random_size() / 30, &result); break;
        case 2: status = faceptor_analyze_encoded(analyzer, image.data, image.data ? image.size : 0, &result); break;
        default: status = faceptor_analyze(analyzer, &image, &result); break;
        }
        if ((status == FACEPTOR_OK) != (result != NULL)) {
            fprintf(stderr, "round %ld: status %u and a result %p\n", round, (unsigned)status, (void *)result);
            failures++;
        }
        found += status == FACEPTOR_OK;
        faceptor_result_free(result);
    }
    if (rounds > 100 && found < (size_t)rounds / 50) {
        fprintf(stderr, "of %ld images %lu could be analyzed: the arguments are too wild\n", rounds, (unsigned long)found);
        failures++;
    }
}

int main(int count, char **arguments)
{
    static const uint8_t pixels[64 * 64 * 3];
    faceptor_options options;
    faceptor_analyzer *analyzer = NULL, *other = NULL;
    faceptor_tracker *tracker = NULL, *no_tracker = NULL;
    faceptor_result *result = NULL, *no_result = NULL;
    faceptor_image image;
    faceptor_face face;
    uint8_t mask[64 * 64];

    EXPECT(faceptor_options_init(NULL), FACEPTOR_ERROR_ARGUMENT, "options is NULL");
    EXPECT(faceptor_analyzer_new(NULL, NULL), FACEPTOR_ERROR_ARGUMENT, "analyzer is NULL");
    faceptor_options_init(&options);
    options.struct_size = 0;
    EXPECT(faceptor_analyzer_new(&options, &analyzer), FACEPTOR_ERROR_ARGUMENT, "faceptor_options_init");
    options.struct_size = 0xdeadbeef;
    EXPECT(faceptor_analyzer_new(&options, &analyzer), FACEPTOR_ERROR_ARGUMENT, "struct_size");
    faceptor_options_init(&options);
    options.tasks = "mood";
    EXPECT(faceptor_analyzer_new(&options, &analyzer), FACEPTOR_ERROR_TASK, "unknown task 'mood'");
    options.tasks = "\xff\xfe";
    EXPECT(faceptor_analyzer_new(&options, &analyzer), FACEPTOR_ERROR_ARGUMENT, "not UTF-8");
    options.tasks = "";
    EXPECT(faceptor_analyzer_new(&options, &analyzer), FACEPTOR_ERROR_TASK, "no task is named");
    options.tasks = "age";
    options.looks = 3;
    EXPECT(faceptor_analyzer_new(&options, &analyzer), FACEPTOR_ERROR_ARGUMENT, "looks is 3");
    options.looks = 1;
    options.threads = 0;
    EXPECT(faceptor_analyzer_new(&options, &analyzer), FACEPTOR_ERROR_ARGUMENT, "0 threads");
    options.threads = 0xffffffffu;
    EXPECT(faceptor_analyzer_new(&options, &analyzer), FACEPTOR_ERROR_ARGUMENT, "threads");
    options.threads = 1;
    options.max_faces = 65;
    EXPECT(faceptor_analyzer_new(&options, &analyzer), FACEPTOR_ERROR_ARGUMENT, "max_faces is 65");
    options.max_faces = 4;
    options.min_face = -1;
    EXPECT(faceptor_analyzer_new(&options, &analyzer), FACEPTOR_ERROR_ARGUMENT, "min_face");
    options.min_face = 24;
    options.model_path = "no.bundle";
    EXPECT(faceptor_analyzer_new(&options, &analyzer), FACEPTOR_ERROR_BUNDLE, "no.bundle");
    options.model_data = "no bundle";
    options.model_size = 9;
    EXPECT(faceptor_analyzer_new(&options, &analyzer), FACEPTOR_ERROR_ARGUMENT, "both");
    options.model_path = NULL;
    EXPECT(faceptor_analyzer_new(&options, &analyzer), FACEPTOR_ERROR_BUNDLE, "not a Faceptor bundle");
    options.model_size = (size_t)-1;
    EXPECT(faceptor_analyzer_new(&options, &analyzer), FACEPTOR_ERROR_ARGUMENT, "more than there can be");
    options.model_data = NULL;
    options.model_size = 0;
    EXPECT(analyzer == NULL ? FACEPTOR_OK : FACEPTOR_ERROR_DEFECT, FACEPTOR_OK, NULL);
    EXPECT(faceptor_analyzer_new(&options, &analyzer), FACEPTOR_OK, NULL);

    memset(&image, 0, sizeof image);
    EXPECT(faceptor_analyze(analyzer, &image, &result), FACEPTOR_ERROR_ARGUMENT, "sizeof(faceptor_image)");
    image.struct_size = sizeof image;
    EXPECT(faceptor_analyze(analyzer, &image, &result), FACEPTOR_ERROR_IMAGE, "0 x 0");
    image.width = image.height = 64;
    EXPECT(faceptor_analyze(analyzer, &image, &result), FACEPTOR_ERROR_IMAGE, "needs 12288 bytes, not 0");
    image.size = sizeof pixels;
    EXPECT(faceptor_analyze(analyzer, &image, &result), FACEPTOR_ERROR_ARGUMENT, "data of the image is NULL");
    image.data = pixels;
    image.stride = 191;
    EXPECT(faceptor_analyze(analyzer, &image, &result), FACEPTOR_ERROR_IMAGE, "rows of 191 bytes");
    image.stride = (size_t)-1;
    EXPECT(faceptor_analyze(analyzer, &image, &result), FACEPTOR_ERROR_IMAGE, NULL);
    image.stride = 0;
    image.format = 99;
    EXPECT(faceptor_analyze(analyzer, &image, &result), FACEPTOR_ERROR_ARGUMENT, "99 is not a faceptor_format");
    image.format = 0;
    image.colour = 99;
    EXPECT(faceptor_analyze(analyzer, &image, &result), FACEPTOR_ERROR_ARGUMENT, "99 is not a faceptor_colour");
    image.colour = 0;
    EXPECT(faceptor_analyze(analyzer, NULL, &result), FACEPTOR_ERROR_ARGUMENT, "image is NULL");
    EXPECT(faceptor_analyze(analyzer, &image, NULL), FACEPTOR_ERROR_ARGUMENT, "result is NULL");
    EXPECT(faceptor_analyze(NULL, &image, &result), FACEPTOR_ERROR_ARGUMENT, "the analyzer is NULL");
    EXPECT(faceptor_analyze_file(analyzer, NULL, &result), FACEPTOR_ERROR_ARGUMENT, "path is NULL");
    EXPECT(faceptor_analyze_file(analyzer, "no such.jpg", &result), FACEPTOR_ERROR_IMAGE, "no such.jpg: no such file");
    EXPECT(faceptor_analyze_encoded(analyzer, NULL, 0, &result), FACEPTOR_ERROR_IMAGE, "the file is empty");
    EXPECT(faceptor_analyze_encoded(analyzer, NULL, 7, &result), FACEPTOR_ERROR_ARGUMENT, "data is NULL");
    EXPECT(faceptor_analyze_encoded(analyzer, pixels, sizeof pixels, &result), FACEPTOR_ERROR_IMAGE, "not a JPEG");
    EXPECT(faceptor_analyze(analyzer, &image, &result), FACEPTOR_OK, NULL);

    face.struct_size = 0;
    EXPECT(faceptor_result_face(result, 0, &face), FACEPTOR_ERROR_ARGUMENT, "sizeof(faceptor_face)");
    face.struct_size = sizeof face;
    EXPECT(faceptor_result_face(result, 0, &face), FACEPTOR_ERROR_ARGUMENT, "there is no face 0: this image has 0");
    EXPECT(faceptor_result_face(result, (size_t)-1, &face), FACEPTOR_ERROR_ARGUMENT, "there is no face");
    EXPECT(faceptor_result_face(result, 0, NULL), FACEPTOR_ERROR_ARGUMENT, "face is NULL");
    EXPECT(faceptor_result_mask(result, 0, mask, sizeof mask), FACEPTOR_ERROR_ARGUMENT, "there is no face");
    EXPECT(faceptor_result_mask(result, 0, NULL, 4096), FACEPTOR_ERROR_ARGUMENT, "mask is NULL");

    /* Handles of another kind, invented ones, and freed ones. */
    EXPECT(faceptor_analyze((faceptor_analyzer *)(void *)result, &image, &no_result), FACEPTOR_ERROR_HANDLE, "this is no analyzer");
    EXPECT(faceptor_analyzer_new(&options, &other), FACEPTOR_OK, NULL);
    EXPECT(faceptor_tracker_new(analyzer, 0, &no_tracker), FACEPTOR_ERROR_ARGUMENT, "1 to 16");
    EXPECT(faceptor_tracker_new(NULL, 1, &no_tracker), FACEPTOR_ERROR_ARGUMENT, "NULL");
    EXPECT(faceptor_tracker_new((faceptor_analyzer *)(void *)&image, 1, &no_tracker), FACEPTOR_ERROR_HANDLE, NULL);
    EXPECT(faceptor_tracker_new(other, 1, &tracker), FACEPTOR_OK, NULL);
    EXPECT(faceptor_tracker_update(tracker, &image, -1, &no_result), FACEPTOR_ERROR_ARGUMENT, "elapsed is -1");
    faceptor_analyzer_free(other);
    faceptor_analyzer_free(other);
    EXPECT(faceptor_tracker_new(other, 1, &no_tracker), FACEPTOR_ERROR_HANDLE, "freed");
    EXPECT(no_tracker == NULL && no_result == NULL ? FACEPTOR_OK : FACEPTOR_ERROR_DEFECT, FACEPTOR_OK, NULL);
    faceptor_analyzer_free(NULL);
    faceptor_tracker_free(NULL);
    faceptor_result_free(NULL);
    faceptor_result_free((faceptor_result *)(void *)&face);
    faceptor_result_free(result);
    EXPECT(faceptor_result_count(result) == 0 ? FACEPTOR_OK : FACEPTOR_ERROR_DEFECT, FACEPTOR_OK, NULL);
    EXPECT(faceptor_result_json(result) == NULL ? FACEPTOR_OK : FACEPTOR_ERROR_DEFECT, FACEPTOR_OK, NULL);
    EXPECT(faceptor_tracker_cut(NULL), FACEPTOR_ERROR_ARGUMENT, "NULL");

    fuzz(analyzer, tracker, count > 1 ? atol(arguments[1]) : 1000);
    faceptor_tracker_free(tracker);
    faceptor_tracker_free(tracker);
    EXPECT(faceptor_tracker_cut(tracker), FACEPTOR_ERROR_HANDLE, "freed");
    faceptor_analyzer_free(analyzer);
    return failures != 0;
}
