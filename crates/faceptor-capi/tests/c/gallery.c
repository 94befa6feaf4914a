/* Galleries as the header says, and what they refuse: `gallery PHOTO FOLDER` prints the JSON of an identification and of the list. */
#include <faceptor.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void expect(int line, faceptor_status status, faceptor_status wanted, const char *words)
{
    const char *message = faceptor_last_error();
    if (status != wanted || (words != NULL && strstr(message, words) == NULL)) {
        fprintf(stderr, "gallery.c:%d: status %u, not %u: %s\n", line, (unsigned)status, (unsigned)wanted, message);
        exit(1);
    }
}
#define EXPECT(call, wanted, words) expect(__LINE__, (call), (wanted), (words))
#define OK(call) expect(__LINE__, (call), FACEPTOR_OK, NULL)
#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "gallery.c:%d: %s (%s)\n", __LINE__, #condition, faceptor_last_error()); \
            exit(1); \
        } \
    } while (0)

int main(int count, char **arguments)
{
    static uint8_t grey[64 * 64];
    static const char name[] = "Eileen Collins";
    char path[4096], key[4096], copy[4096];
    faceptor_options options;
    faceptor_analyzer *analyzer = NULL;
    faceptor_gallery_options how;
    faceptor_gallery *gallery = NULL, *reader = NULL, *none = NULL;
    faceptor_enrolment enrolment;
    faceptor_photo photos[3];
    faceptor_naming naming;
    faceptor_identity identity;
    faceptor_image image;
    faceptor_result *result = NULL, *plain = NULL;
    FILE *file;

    if (count != 3) return 2;
    snprintf(path, sizeof path, "%.4000s/door.gallery", arguments[2]);
    snprintf(key, sizeof key, "%.4000s/door.key", arguments[2]);
    OK(faceptor_options_init(&options));
    options.looks = 1;
    OK(faceptor_analyzer_new(&options, &analyzer));
    memset(&image, 0, sizeof image);
    image.struct_size = sizeof image;
    image.data = grey;
    image.size = sizeof grey;
    image.width = image.height = 64;
    image.format = FACEPTOR_GREY;

    /* Keys and files. */
    OK(faceptor_gallery_make_key(key));
    EXPECT(faceptor_gallery_make_key(key), FACEPTOR_ERROR_GALLERY, "cannot write the key");
    EXPECT(faceptor_gallery_make_key(NULL), FACEPTOR_ERROR_ARGUMENT, "path is NULL");
    memset(&how, 0, sizeof how);
    EXPECT(faceptor_gallery_open(analyzer, path, &how, &gallery), FACEPTOR_ERROR_ARGUMENT, "sizeof(faceptor_gallery_options)");
    how.struct_size = sizeof how;
    EXPECT(faceptor_gallery_open(analyzer, path, NULL, &gallery), FACEPTOR_ERROR_ARGUMENT, "options is NULL");
    EXPECT(faceptor_gallery_open(analyzer, path, &how, &gallery), FACEPTOR_ERROR_GALLERY, "a key is needed");
    how.key_path = key;
    EXPECT(faceptor_gallery_open(analyzer, path, &how, &gallery), FACEPTOR_ERROR_GALLERY, "door.gallery");
    EXPECT(faceptor_gallery_open(analyzer, NULL, &how, &gallery), FACEPTOR_ERROR_ARGUMENT, "path is NULL");
    EXPECT(faceptor_gallery_open(NULL, path, &how, &gallery), FACEPTOR_ERROR_ARGUMENT, "the analyzer is NULL");
    EXPECT(faceptor_gallery_open(analyzer, path, &how, NULL), FACEPTOR_ERROR_ARGUMENT, "gallery is NULL");
    EXPECT(faceptor_gallery_open(analyzer, arguments[1], &how, &gallery), FACEPTOR_ERROR_GALLERY, "not a Faceptor gallery");
    how.access = 7;
    EXPECT(faceptor_gallery_open(analyzer, path, &how, &gallery), FACEPTOR_ERROR_ARGUMENT, "access is 7");
    how.access = FACEPTOR_CREATE;
    how.passphrase = "a long sentence";
    EXPECT(faceptor_gallery_open(analyzer, path, &how, &gallery), FACEPTOR_ERROR_GALLERY, "both given");
    how.passphrase = NULL;
    CHECK(gallery == NULL);
    OK(faceptor_gallery_open(analyzer, path, &how, &gallery));
    EXPECT(faceptor_gallery_open(analyzer, path, &how, &none), FACEPTOR_ERROR_GALLERY, NULL);

    /* Enrolments. */
    memset(&enrolment, 0, sizeof enrolment);
    memset(photos, 0, sizeof photos);
    EXPECT(faceptor_gallery_enroll(gallery, name, NULL, NULL, 1), FACEPTOR_ERROR_ARGUMENT, "photos is NULL");
    EXPECT(faceptor_gallery_enroll(gallery, name, NULL, photos, (size_t)-1), FACEPTOR_ERROR_ARGUMENT, "more than there can be");
    EXPECT(faceptor_gallery_enroll(gallery, name, NULL, photos, 1), FACEPTOR_ERROR_ARGUMENT, "sizeof(faceptor_photo)");
    photos[0].struct_size = photos[1].struct_size = photos[2].struct_size = sizeof *photos;
    EXPECT(faceptor_gallery_enroll(gallery, name, NULL, photos, 1), FACEPTOR_ERROR_ARGUMENT, "give one of them");
    photos[0].path = arguments[1];
    photos[1].image = &image;
    photos[2].path = "no such.jpg";
    EXPECT(faceptor_gallery_enroll(gallery, name, &enrolment, photos, 3), FACEPTOR_ERROR_ARGUMENT, "sizeof(faceptor_enrolment)");
    enrolment.struct_size = sizeof enrolment;
    enrolment.purpose = "front door";
    enrolment.expires = "soon";
    EXPECT(faceptor_gallery_enroll(gallery, name, &enrolment, photos, 3), FACEPTOR_ERROR_GALLERY, "expires: \"soon\" is not a time");
    enrolment.expires = "1y";
    EXPECT(faceptor_gallery_enroll(gallery, NULL, &enrolment, photos, 3), FACEPTOR_ERROR_ARGUMENT, "name is NULL");
    EXPECT(faceptor_gallery_enroll(gallery, "a\nb", &enrolment, photos, 3), FACEPTOR_ERROR_GALLERY, "one line");
    EXPECT(faceptor_gallery_enroll(gallery, "\xff", &enrolment, photos, 3), FACEPTOR_ERROR_ARGUMENT, "not UTF-8");
    OK(faceptor_gallery_enroll(gallery, name, &enrolment, photos, 3));
    CHECK(photos[0].enrolled && !photos[0].known && strcmp(photos[0].reasons, "") == 0);
    CHECK(!photos[1].enrolled && strcmp(photos[1].reasons, "no_face") == 0);
    CHECK(!photos[2].enrolled && strcmp(photos[2].reasons, "unreadable") == 0);
    OK(faceptor_gallery_enroll(gallery, name, NULL, photos, 1));
    CHECK(!photos[0].enrolled && photos[0].known);

    /* A reader, which outlives the analyzer. */
    how.access = FACEPTOR_READ;
    OK(faceptor_gallery_open(analyzer, path, &how, &reader));
    how.access = FACEPTOR_WRITE;
    EXPECT(faceptor_gallery_open(analyzer, path, &how, &none), FACEPTOR_ERROR_GALLERY, "another process changes this gallery");
    EXPECT(faceptor_gallery_remove(reader, name), FACEPTOR_ERROR_GALLERY, "opened for reading only");
    EXPECT(faceptor_gallery_enroll(reader, name, NULL, photos, 1), FACEPTOR_ERROR_GALLERY, "opened for reading only");
    OK(faceptor_analyze(analyzer, &image, &plain));
    faceptor_analyzer_free(analyzer);

    /* Names. */
    OK(faceptor_gallery_identify_file(reader, arguments[1], NULL, &result));
    CHECK(faceptor_result_count(result) == 1);
    EXPECT(faceptor_result_identity(result, 0, NULL), FACEPTOR_ERROR_ARGUMENT, "identity is NULL");
    identity.struct_size = 3;
    EXPECT(faceptor_result_identity(result, 0, &identity), FACEPTOR_ERROR_ARGUMENT, "sizeof(faceptor_identity)");
    identity.struct_size = sizeof identity;
    EXPECT(faceptor_result_identity(result, 1, &identity), FACEPTOR_ERROR_ARGUMENT, "there is no face 1");
    EXPECT(faceptor_result_identity(plain, 0, &identity), FACEPTOR_ERROR_ARGUMENT, "there is no face 0");
    OK(faceptor_result_identity(result, 0, &identity));
    CHECK(strcmp(identity.name, name) == 0 && identity.unknown == NULL);
    CHECK(identity.similarity > 0.99f && identity.similarity >= identity.threshold && isnan(identity.second_similarity));
    puts(faceptor_result_json(result));
    faceptor_result_free(result);
    OK(faceptor_naming_init(&naming));
    CHECK(isnan(naming.threshold) && naming.fpir > 0.009 && naming.fpir < 0.011);
    naming.fpir = 1.5;
    EXPECT(faceptor_gallery_identify_file(reader, arguments[1], &naming, &result), FACEPTOR_ERROR_ARGUMENT, "fpir is 1.5");
    naming.struct_size = 0;
    EXPECT(faceptor_gallery_identify_file(reader, arguments[1], &naming, &result), FACEPTOR_ERROR_ARGUMENT, "faceptor_naming_init");
    OK(faceptor_naming_init(&naming));
    naming.margin = 2;
    OK(faceptor_gallery_identify(reader, &image, &naming, &result));
    CHECK(faceptor_result_count(result) == 0);
    faceptor_result_free(result);
    EXPECT(faceptor_gallery_identify_file(reader, "no such.jpg", NULL, &result), FACEPTOR_ERROR_IMAGE, "no such file");
    EXPECT(faceptor_gallery_identify(NULL, &image, NULL, &result), FACEPTOR_ERROR_ARGUMENT, "the gallery is NULL");

    /* Changes; the reader has the state of before. */
    EXPECT(faceptor_gallery_remove(gallery, "Ada"), FACEPTOR_ERROR_GALLERY, "no person of that name");
    OK(faceptor_gallery_rename(gallery, name, "E. Collins"));
    CHECK(strstr(faceptor_gallery_json(gallery), "E. Collins") != NULL && strstr(faceptor_gallery_json(reader), name) != NULL);
    OK(faceptor_gallery_rename(gallery, "E. Collins", name));
    puts(faceptor_gallery_json(gallery));
    fflush(stdout);
    faceptor_gallery_free(reader);
    faceptor_gallery_free(reader);
    faceptor_gallery_free(NULL);
    EXPECT(faceptor_gallery_remove(reader, name), FACEPTOR_ERROR_HANDLE, "freed");
    CHECK(faceptor_gallery_json(reader) == NULL);
    EXPECT(faceptor_gallery_rename((faceptor_gallery *)(void *)plain, name, name), FACEPTOR_ERROR_HANDLE, "this is no gallery");
    faceptor_gallery_free(gallery);

    /* A damaged file. */
    snprintf(copy, sizeof copy, "%.4000s/damaged.gallery", arguments[2]);
    OK(faceptor_options_init(&options));
    options.looks = 1;
    OK(faceptor_analyzer_new(&options, &analyzer));
    file = fopen(copy, "wb");
    CHECK(file != NULL && fputs("FACEGALL and then nonsense", file) >= 0);
    fclose(file);
    how.access = FACEPTOR_READ;
    EXPECT(faceptor_gallery_open(analyzer, copy, &how, &none), FACEPTOR_ERROR_GALLERY, "damaged.gallery");
    CHECK(none == NULL);
    faceptor_analyzer_free(analyzer);
    faceptor_result_free(plain);
    return 0;
}
