// The part of OpenCV that examples/camera.cpp uses, in OpenCV's types: the example is checked where OpenCV is not installed.
#pragma once
#include <cstddef>
#include <string>

namespace cv {

struct MatStep {
    operator std::size_t() const;
};

class Mat {
public:
    int rows, cols;
    unsigned char *data;
    MatStep step;
};

enum VideoCaptureProperties { CAP_PROP_FPS = 5 };

class VideoCapture {
public:
    bool open(const std::string &file, int backend = 0);
    bool open(int number, int backend = 0);
    bool isOpened() const;
    double get(int property) const;
    bool read(Mat &frame);
};

} // namespace cv
