// Follows the faces in front of a camera, with OpenCV.
//
//     c++ camera.cpp $(pkg-config --cflags --libs faceptor opencv4) -o camera && ./camera [DEVICE OR FILM]
#include <faceptor.h>

#include <iostream>
#include <memory>
#include <opencv2/imgproc.hpp>
#include <opencv2/videoio.hpp>
#include <stdexcept>
#include <string>

namespace {

void check(faceptor_status status)
{
    if (status != FACEPTOR_OK) throw std::runtime_error(faceptor_last_error());
}

using Analyzer = std::unique_ptr<faceptor_analyzer, decltype(&faceptor_analyzer_free)>;
using Tracker = std::unique_ptr<faceptor_tracker, decltype(&faceptor_tracker_free)>;
using Result = std::unique_ptr<faceptor_result, decltype(&faceptor_result_free)>;

Tracker make_tracker(const char *tasks)
{
    faceptor_options options;
    check(faceptor_options_init(&options));
    options.tasks = tasks;
    faceptor_analyzer *analyzer = nullptr;
    check(faceptor_analyzer_new(&options, &analyzer));
    Analyzer owner(analyzer, faceptor_analyzer_free);
    faceptor_tracker *tracker = nullptr;
    check(faceptor_tracker_new(analyzer, 4, &tracker));
    return Tracker(tracker, faceptor_tracker_free);
}

} // namespace

int main(int count, char **arguments)
try {
    cv::VideoCapture camera;
    if (count > 1) camera.open(arguments[1]);
    else camera.open(0);
    if (!camera.isOpened()) throw std::runtime_error("the camera cannot be opened");
    const double rate = camera.get(cv::CAP_PROP_FPS) > 0 ? camera.get(cv::CAP_PROP_FPS) : 30.0;
    const Tracker tracker = make_tracker("landmarks,expression");
    for (cv::Mat frame; camera.read(frame);) {
        faceptor_image image = {};
        image.struct_size = sizeof image;
        image.data = frame.data;
        image.size = frame.step * frame.rows;
        image.stride = frame.step;
        image.width = static_cast<uint32_t>(frame.cols);
        image.height = static_cast<uint32_t>(frame.rows);
        image.format = FACEPTOR_BGR;
        faceptor_result *found = nullptr;
        check(faceptor_tracker_update(tracker.get(), &image, 1 / rate, &found));
        const Result result(found, faceptor_result_free);
        for (size_t index = 0; index < faceptor_result_count(found); index++) {
            faceptor_face face = {};
            face.struct_size = sizeof face;
            check(faceptor_result_face(found, index, &face));
            std::cout << face.id << ": " << face.expression_labels[face.expression_best] << '\n';
        }
    }
    return 0;
} catch (const std::exception &error) {
    std::cerr << "camera: " << error.what() << '\n';
    return 1;
}
