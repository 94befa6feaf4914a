// Declares nothing: examples/camera.cpp uses what videoio.hpp has.
#pragma once
