/*
 * faceptor: reads faces in images on a CPU. C99, and C++ from 98 on.
 *
 *     faceptor_analyzer *analyzer = NULL;
 *     faceptor_result *result = NULL;
 *     if (faceptor_analyzer_new(NULL, &analyzer) != FACEPTOR_OK ||
 *         faceptor_analyze_file(analyzer, "photo.jpg", &result) != FACEPTOR_OK) {
 *         fprintf(stderr, "%s\n", faceptor_last_error());
 *     }
 *     puts(faceptor_result_json(result));
 *     faceptor_result_free(result);
 *     faceptor_analyzer_free(analyzer);
 *
 * Every function that can fail returns a faceptor_status, and writes NULL in place of a new object. No function ends the program,
 * throws, or starts a thread that was not asked for. Functions may be called from several threads at once; calls with one analyzer
 * or tracker then run one after the other.
 *
 * Handles are freed by their faceptor_..._free, in any order: a result outlives its analyzer. A handle that was freed before, or is
 * of another kind, gives FACEPTOR_ERROR_HANDLE; freeing it again, or freeing NULL, does nothing. What was got from a result (the
 * pointers of a faceptor_face, the JSON) lives until the result is freed: the library cannot notice that it is used afterwards.
 * Nor can it notice other pointers that do not point to what is demanded here.
 *
 * Texts are UTF-8 and end with a zero byte. Coordinates are pixels; the centre of the image's top-left pixel is (0, 0).
 */
#ifndef FACEPTOR_H
#define FACEPTOR_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Version of this interface: the number in libfaceptor.so.N. */
#define FACEPTOR_ABI_VERSION 0

typedef struct faceptor_analyzer faceptor_analyzer;
typedef struct faceptor_tracker faceptor_tracker;
typedef struct faceptor_result faceptor_result;
typedef struct faceptor_gallery faceptor_gallery;

/* What a function returns. */
typedef uint32_t faceptor_status;
enum {
    FACEPTOR_OK = 0,
    FACEPTOR_ERROR_ARGUMENT = 1,    /* a null pointer, or a value that is not allowed */
    FACEPTOR_ERROR_HANDLE = 2,      /* a handle that was freed, or is of another kind */
    FACEPTOR_ERROR_BUNDLE = 3,      /* the network cannot be read, or cannot be run on this CPU */
    FACEPTOR_ERROR_TASK = 4,        /* the network has no task of that name */
    FACEPTOR_ERROR_IMAGE = 5,       /* the image cannot be read, or its size does not fit */
    FACEPTOR_ERROR_UNSUPPORTED = 6, /* the network lacks what was requested, such as a face detector */
    FACEPTOR_ERROR_NETWORK = 7,     /* the network failed on an image */
    FACEPTOR_ERROR_DEFECT = 8,      /* a defect of this library */
    FACEPTOR_ERROR_GALLERY = 9      /* the gallery or its key cannot be read or changed, or refuses a request */
};

/* Returns the message of this thread's last failure: what was wrong, and what to do. It lives until the next failure. */
const char *faceptor_last_error(void);

/* Returns the version of the library, such as "0.7.0". */
const char *faceptor_version(void);

/* Returns FACEPTOR_ABI_VERSION of the library that runs. */
uint32_t faceptor_abi_version(void);

/* Options of an analyzer. Call faceptor_options_init before you change some of them. */
typedef struct faceptor_options {
    size_t struct_size;     /* sizeof(faceptor_options) */
    const char *model_path; /* a bundle made by `faceptor compile`; NULL: the network inside the library */
    const void *model_data; /* or the content of one, model_size bytes, which is copied */
    size_t model_size;
    const char *tasks;   /* names such as "age,landmarks", "all", or "none" for the face detector alone; NULL: all but recognition */
    uint32_t threads;    /* that share the work on an image, the caller's included: 1 (usual) to 8 */
    uint32_t looks;      /* views of each face that are averaged: 1, 2, 6 or 10 (usual); ten take ten times as long as one */
    uint32_t max_faces;  /* of an image, best score first: 1 to 64 (usual) */
    float min_face;      /* longer side of the smallest faces to look for, pixels: 24 (usual), 16 or more */
    uint32_t upright;    /* not 0: look for upright faces alone, in less than half of the time */
    uint32_t fine_masks; /* 0: parsing masks without smooth borders, and faster */
} faceptor_options;

/* Fills in the usual options. */
faceptor_status faceptor_options_init(faceptor_options *options);

/* Makes an analyzer: a network with its memory. Make one and use it for every image. `options` may be NULL. */
faceptor_status faceptor_analyzer_new(const faceptor_options *options, faceptor_analyzer **analyzer);

/* Frees an analyzer. A call that uses it in another thread goes on to its end. */
void faceptor_analyzer_free(faceptor_analyzer *analyzer);

/* Layout of an image's bytes. */
enum {
    FACEPTOR_RGB = 0,  /* red, green, blue, a byte each */
    FACEPTOR_BGR = 1,  /* blue, green, red */
    FACEPTOR_GREY = 2, /* a byte */
    FACEPTOR_NV12 = 3, /* a plane of Y, then one of U V pairs of half the size; both have the same stride */
    FACEPTOR_I420 = 4, /* planes Y, U, V; U and V have half the width, height and stride */
    FACEPTOR_I422 = 5, /* planes Y, U, V; U and V have half the width and stride */
    FACEPTOR_I444 = 6, /* planes Y, U, V of the same size */
    FACEPTOR_YUYV = 7, /* two pixels in four bytes: Y U Y V */
    FACEPTOR_UYVY = 8  /* two pixels in four bytes: U Y V Y */
};

/* Encoding of Y, U and V. */
enum {
    FACEPTOR_COLOUR_USUAL = 0, /* BT601_LIMITED, and for GREY 0 to 255 */
    FACEPTOR_COLOUR_BT601_LIMITED = 1,
    FACEPTOR_COLOUR_BT601_FULL = 2,
    FACEPTOR_COLOUR_BT709_LIMITED = 3,
    FACEPTOR_COLOUR_BT709_FULL = 4
};

/* Pixels in memory of the caller, which are read during a call only. */
typedef struct faceptor_image {
    size_t struct_size;  /* sizeof(faceptor_image) */
    const uint8_t *data; /* the first byte of the first row */
    size_t size;         /* bytes from there on: what format, height and stride need, or more */
    size_t stride;       /* bytes from a row of the first plane to the next; 0: rows without gaps */
    uint32_t width;
    uint32_t height;
    uint32_t format; /* FACEPTOR_RGB ... */
    uint32_t colour; /* FACEPTOR_COLOUR_... */
} faceptor_image;

/* Finds the faces of an image, best score first, and runs the tasks on each. */
faceptor_status faceptor_analyze(faceptor_analyzer *analyzer, const faceptor_image *image, faceptor_result **result);

/* Runs the tasks on a square crop of one face with the eyes where the network expects them. */
faceptor_status faceptor_analyze_aligned(faceptor_analyzer *analyzer, const faceptor_image *image, faceptor_result **result);

/* Reads a JPEG, PNG, WebP, TIFF, BMP or GIF, applies its EXIF orientation and analyzes it. */
faceptor_status faceptor_analyze_file(faceptor_analyzer *analyzer, const char *path, faceptor_result **result);

/* Does the same with the content of such a file. */
faceptor_status faceptor_analyze_encoded(faceptor_analyzer *analyzer, const void *data, size_t size, faceptor_result **result);

/* Makes a tracker with network, tasks and options of an analyzer, which may be freed then. It tracks 1 to 16 faces. */
faceptor_status faceptor_tracker_new(faceptor_analyzer *analyzer, uint32_t max_faces, faceptor_tracker **tracker);

/* Processes the next frame of a video, taken `elapsed` seconds after the last one. A face keeps its id from frame to frame. */
faceptor_status faceptor_tracker_update(faceptor_tracker *tracker, const faceptor_image *image, double elapsed, faceptor_result **result);

/* Declares that the next frame shows another scene. */
faceptor_status faceptor_tracker_cut(faceptor_tracker *tracker);

/* Frees a tracker. */
void faceptor_tracker_free(faceptor_tracker *tracker);

/* Bits of faceptor_face.results: the tasks that ran. */
enum {
    FACEPTOR_HAS_LANDMARKS = 1,
    FACEPTOR_HAS_PARSING = 2,
    FACEPTOR_HAS_AGE = 4,
    FACEPTOR_HAS_EXPRESSION = 8,
    FACEPTOR_HAS_ATTRIBUTES = 16,
    FACEPTOR_HAS_RECOGNITION = 32
};

/* A face. Of several tasks of one kind it has the first; the JSON has all. Lists of names end with NULL. */
typedef struct faceptor_face {
    size_t struct_size;    /* set it to sizeof(faceptor_face) before the call */
    uint32_t id;           /* from 1 on: in an image by falling score, in a video the same from frame to frame */
    uint32_t results;      /* FACEPTOR_HAS_... */
    float score;           /* of the face detector, 0 to 1 */
    float box[4];          /* left, top, width, height */
    float keypoints[5][2]; /* eyes, nose tip, mouth corners, left to right in the image */
    uint32_t trusted;      /* 0: the results are not to be trusted; the JSON has the reasons */
    float eyes_px;         /* pixels between the eyes */
    float turn;            /* 0: frontal; not a number where it is unknown */
    float roll;            /* degrees by which the face is turned clockwise in the image */
    float age_years;
    float age_std;              /* standard deviation of the estimate */
    const float (*landmarks)[2]; /* iBUG order */
    size_t landmark_count;      /* 68 */
    const float *parsing_share; /* share of the face's crop, for each class */
    const char *const *parsing_classes;
    size_t parsing_count;
    const float *expression_scores; /* they sum to 1 */
    const char *const *expression_labels;
    size_t expression_count;
    size_t expression_best; /* index of the most probable one */
    const float *attribute_probabilities;
    const char *const *attribute_labels;
    size_t attribute_count;
    const float *embedding; /* of unit length: the cosine between two is their similarity */
    size_t embedding_count;
} faceptor_face;

/* Returns the number of faces; 0 for a handle that is not a result. */
size_t faceptor_result_count(const faceptor_result *result);

/* Fills in a face: index 0 to faceptor_result_count - 1. */
faceptor_status faceptor_result_face(const faceptor_result *result, size_t index, faceptor_face *face);

/* Returns the results as the JSON that `faceptor image --json` prints; NULL for a handle that is not a result. */
const char *faceptor_result_json(const faceptor_result *result);

/* Paints the class of each pixel: width * height bytes, row by row, 255 outside the face's crop. */
faceptor_status faceptor_result_mask(const faceptor_result *result, size_t index, uint8_t *mask, size_t size);

/* Frees a result, and what was got from it. */
void faceptor_result_free(faceptor_result *result);

/* Galleries: people in an encrypted file, which name faces. It is the file of `faceptor enroll` and `faceptor identify`. */

/* How a gallery is opened. Many may read a file while one changes it; a reader keeps the state in which it opened the file. */
enum {
    FACEPTOR_READ = 0,
    FACEPTOR_WRITE = 1, /* become the one that may change it */
    FACEPTOR_CREATE = 2 /* make an empty gallery, which may be changed; there must be no such file */
};

/* Options of a gallery: set all to zero, then what is needed. One of key_path and passphrase is. */
typedef struct faceptor_gallery_options {
    size_t struct_size;     /* sizeof(faceptor_gallery_options) */
    const char *key_path;   /* the file of the key, which only its owner may read */
    const char *passphrase; /* in place of key_path */
    uint32_t access;        /* FACEPTOR_READ, ... */
} faceptor_gallery_options;

/* Writes a new key into a file that only its owner may read. It replaces no file. */
faceptor_status faceptor_gallery_make_key(const char *path);

/* Opens a gallery with the network of an analyzer, which may be freed then. The network must have a recognition. */
faceptor_status faceptor_gallery_open(faceptor_analyzer *analyzer, const char *path, const faceptor_gallery_options *options,
                                      faceptor_gallery **gallery);

/* Closes a gallery. */
void faceptor_gallery_free(faceptor_gallery *gallery);

/* How similar is similar enough. Call faceptor_naming_init before you change some of it. */
typedef struct faceptor_naming {
    size_t struct_size; /* sizeof(faceptor_naming) */
    double fpir;        /* the share of strangers that may get a name: 0.01 (usual); the threshold follows from it */
    float threshold;    /* the least cosine similarity for a name, in place of fpir; not a number (usual): by fpir */
    float margin;       /* the least distance between the best and the second-best person: 0.02 (usual) */
} faceptor_naming;

/* Fills in the usual numbers. */
faceptor_status faceptor_naming_init(faceptor_naming *naming);

/* Finds the faces of an image and names them: faceptor_result_identity. `naming` may be NULL. The JSON of the result is that of
 * `faceptor identify --json`; its faces have an embedding and no other results. */
faceptor_status faceptor_gallery_identify(faceptor_gallery *gallery, const faceptor_image *image, const faceptor_naming *naming,
                                          faceptor_result **result);

/* Does the same with a file. */
faceptor_status faceptor_gallery_identify_file(faceptor_gallery *gallery, const char *path, const faceptor_naming *naming,
                                               faceptor_result **result);

/* Who a face is. */
typedef struct faceptor_identity {
    size_t struct_size;      /* set it to sizeof(faceptor_identity) before the call */
    const char *name;        /* NULL for a stranger */
    const char *unknown;     /* why there is no name: "below_threshold", "ambiguous" or "empty_gallery"; else NULL */
    float similarity;        /* of the best person; not a number in an empty gallery */
    float second_similarity; /* of the second-best; not a number where there is none */
    float threshold;         /* the least similarity for a name */
} faceptor_identity;

/* Fills in who a face is: index 0 to faceptor_result_count - 1. */
faceptor_status faceptor_result_identity(const faceptor_result *result, size_t index, faceptor_identity *identity);

/* Circumstances of an enrolment: set all to zero, then what is needed. They are stored for a new person only. */
typedef struct faceptor_enrolment {
    size_t struct_size;  /* sizeof(faceptor_enrolment) */
    const char *by;      /* who enrols the person; NULL: the account's name */
    const char *purpose; /* NULL: none */
    const char *expires; /* end: "12h", "30d", "2w", "6m", "1y" from now, or a date such as "2027-01-31"; NULL: never */
    uint32_t force;      /* not 0: enrol also photos that there are reasons against, which are stored with them */
} faceptor_enrolment;

/* A photo of a person, and the outcome of its enrolment. */
typedef struct faceptor_photo {
    size_t struct_size;          /* sizeof(faceptor_photo) */
    const char *path;            /* a file; NULL: `image` has the pixels */
    const faceptor_image *image; /* pixels; NULL: `path` has the file */
    uint32_t enrolled;           /* the call sets it to 1 for a photo that was added */
    uint32_t known;              /* to 1 where the very same photo was there before */
    char reasons[256];           /* reasons against the photo with commas between them, such as "too_small,several_faces" */
} faceptor_photo;

/* Enrols a person from the photos that are good enough, or adds them to the person of that name. A photo that is not good enough,
 * or cannot be read ("unreadable"), is no error: look at `enrolled` of each. `enrolment` may be NULL. */
faceptor_status faceptor_gallery_enroll(faceptor_gallery *gallery, const char *name, const faceptor_enrolment *enrolment,
                                        faceptor_photo *photos, size_t count);

/* Removes a person: the file is written anew without the person's key and records. */
faceptor_status faceptor_gallery_remove(faceptor_gallery *gallery, const char *name);

/* Gives a person another name. */
faceptor_status faceptor_gallery_rename(faceptor_gallery *gallery, const char *name, const char *to);

/* Returns the people as the JSON that `faceptor gallery list --json` prints; NULL for a handle that is not a gallery. The text lives
 * until the next such call with this gallery, from any thread, or until the gallery is freed. */
const char *faceptor_gallery_json(faceptor_gallery *gallery);

#ifdef __cplusplus
}
#endif

#endif
