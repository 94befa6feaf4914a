/* Writes frames to a v4l2loopback device at a camera's rate, forward and backward in a loop, until it is killed.
 *
 *     feeder DEVICE WIDTH HEIGHT FOURCC FPS FILE
 *
 * FILE holds raw frames, or concatenated JPEGs for MJPG. Frame k is due at the start + k / FPS. For each frame it prints
 * the monotonic clock in microseconds and the frame's number in the file. */
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MOST_FRAMES 1000

static void fail(const char *what) {
    fprintf(stderr, "feeder: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* Returns the length of the JPEG at `bytes`: up to an end marker followed by another picture or the end. */
static size_t jpeg_length(const unsigned char *bytes, size_t left) {
    for (size_t i = 2; i + 2 <= left; i++)
        if (bytes[i] == 0xff && bytes[i + 1] == 0xd9 && (i + 2 == left || (bytes[i + 2] == 0xff && bytes[i + 3] == 0xd8)))
            return i + 2;
    return left;
}

int main(int count, char **words) {
    if (count != 7 || strlen(words[4]) != 4) {
        fprintf(stderr, "usage: feeder DEVICE WIDTH HEIGHT FOURCC FPS FILE\n");
        return 2;
    }
    const char *fourcc = words[4];
    int jpeg = memcmp(fourcc, "MJPG", 4) == 0;
    double period_ns = 1e9 / atof(words[5]);

    struct v4l2_format format = {.type = V4L2_BUF_TYPE_VIDEO_OUTPUT};
    format.fmt.pix.width = atoi(words[2]);
    format.fmt.pix.height = atoi(words[3]);
    format.fmt.pix.pixelformat = v4l2_fourcc(fourcc[0], fourcc[1], fourcc[2], fourcc[3]);
    format.fmt.pix.sizeimage = format.fmt.pix.width * format.fmt.pix.height * 2;
    format.fmt.pix.field = V4L2_FIELD_NONE;
    /* The device keeps its format while it is open in any process: close it until the reader has closed it. */
    int device;
    struct v4l2_format given;
    for (;;) {
        device = open(words[1], O_RDWR);
        if (device < 0) fail(words[1]);
        given = format;
        if (ioctl(device, VIDIOC_S_FMT, &given) == 0 && given.fmt.pix.width == format.fmt.pix.width &&
            given.fmt.pix.height == format.fmt.pix.height && given.fmt.pix.pixelformat == format.fmt.pix.pixelformat)
            break;
        close(device);
        usleep(20000);
    }
    int file = open(words[6], O_RDONLY);
    struct stat status;
    if (file < 0 || fstat(file, &status) < 0) fail(words[6]);
    size_t size = status.st_size;
    const unsigned char *bytes = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, file, 0);
    if (bytes == MAP_FAILED) fail(words[6]);

    struct { size_t at, length; } frames[MOST_FRAMES];
    long count_of_frames = 0;
    for (size_t at = 0; at < size && count_of_frames < MOST_FRAMES; count_of_frames++) {
        size_t raw = (size_t)format.fmt.pix.width * format.fmt.pix.height * 2;
        size_t length = jpeg ? jpeg_length(bytes + at, size - at) : raw;
        if (at + length > size) break;
        frames[count_of_frames].at = at;
        frames[count_of_frames].length = length;
        at += length;
    }
    if (count_of_frames == 0) {
        fprintf(stderr, "feeder: %s holds no whole frame\n", words[6]);
        return 1;
    }

    setvbuf(stdout, NULL, _IOLBF, 0);
    struct timespec start;
    clock_gettime(CLOCK_MONOTONIC, &start);
    long turn = count_of_frames > 1 ? 2 * count_of_frames - 2 : 1;
    for (long number = 0;; number++) {
        double due_ns = start.tv_nsec + number * period_ns;
        struct timespec due = {start.tv_sec + (time_t)(due_ns / 1e9), 0};
        due.tv_nsec = (long)(due_ns - (due.tv_sec - start.tv_sec) * 1e9);
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
        long shown = number % turn;
        if (shown >= count_of_frames) shown = turn - shown;
        ssize_t length = frames[shown].length;
        if (write(device, bytes + frames[shown].at, length) != length) fail("write");
        struct timespec fed;
        clock_gettime(CLOCK_MONOTONIC, &fed);
        printf("%lld %ld\n", fed.tv_sec * 1000000LL + fed.tv_nsec / 1000, shown);
    }
}
