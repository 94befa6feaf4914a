/*
 * Prints the faces of a photo.
 *
 *     cc -std=c99 faces.c $(pkg-config --cflags --libs faceptor) -o faces && ./faces photo.jpg
 */
#include <faceptor.h>
#include <stdio.h>

int main(int count, char **arguments)
{
    faceptor_options options;
    faceptor_analyzer *analyzer = NULL;
    faceptor_result *result = NULL;
    size_t index;
    int status = 1;

    if (count != 2) {
        fprintf(stderr, "usage: faces PHOTO\n");
        return 2;
    }
    faceptor_options_init(&options);
    options.tasks = "age,expression,landmarks";
    if (faceptor_analyzer_new(&options, &analyzer) != FACEPTOR_OK ||
        faceptor_analyze_file(analyzer, arguments[1], &result) != FACEPTOR_OK) {
        fprintf(stderr, "faces: %s\n", faceptor_last_error());
        goto end;
    }
    for (index = 0; index < faceptor_result_count(result); index++) {
        faceptor_face face;
        face.struct_size = sizeof face;
        if (faceptor_result_face(result, index, &face) != FACEPTOR_OK) {
            fprintf(stderr, "faces: %s\n", faceptor_last_error());
            goto end;
        }
        printf("%.0f years, %s, %.0f x %.0f pixels at %.0f, %.0f, the tip of the nose at %.1f, %.1f\n", face.age_years,
               face.expression_labels[face.expression_best], face.box[2], face.box[3], face.box[0], face.box[1],
               face.landmarks[30][0], face.landmarks[30][1]);
    }
    status = 0;
end:
    faceptor_result_free(result);
    faceptor_analyzer_free(analyzer);
    return status;
}
