#!/usr/bin/env python3
"""Makes what the image's test camera shows: a PPM picture of 512 x 512, moved to and fro in 640 x 480, as YUYV frames.

djpeg models/demo/astronaut.jpg | packaging/image/picture.py >picture.yuyv
"""

import sys

WIDTH, HEIGHT = 640, 480
# Offsets of the picture's left side; the same way back, so that the loop has no jump.
OFFSETS = [32, 48, 64, 80, 96, 80, 64, 48]
# Rows that are left out above and below.
TOP = 16
GREY = bytes([128, 128])


def read_ppm(stream):
    """Returns width, height and the RGB bytes of a binary PPM."""
    words = []
    while len(words) < 4:
        words += stream.readline().split(b"#")[0].split()
    if words[0] != b"P6" or words[3] != b"255":
        sys.exit("picture: standard input is no binary PPM with 8 bits")
    width, height = int(words[1]), int(words[2])
    pixels = stream.read()
    if len(pixels) != width * height * 3 or width % 2 or width > WIDTH or height < TOP + HEIGHT:
        sys.exit(f"picture: a PPM of even width to {WIDTH} and at least {TOP + HEIGHT} rows is needed, not {width} x {height}")
    return width, pixels


def yuyv(rgb):
    """Converts a row of RGB to YUYV, BT.601 in studio range."""
    row = bytearray()
    for i in range(0, len(rgb), 6):
        r, g, b, r1, g1, b1 = rgb[i : i + 6]
        row += bytes((
            16 + (66 * r + 129 * g + 25 * b + 128 >> 8),
            128 + (-38 * r - 74 * g + 112 * b + 128 >> 8),
            16 + (66 * r1 + 129 * g1 + 25 * b1 + 128 >> 8),
            128 + (112 * r - 94 * g - 18 * b + 128 >> 8),
        ))  # fmt: skip
    return bytes(row)


def main():
    width, pixels = read_ppm(sys.stdin.buffer)
    rows = [yuyv(pixels[3 * width * y : 3 * width * (y + 1)]) for y in range(TOP, TOP + HEIGHT)]
    for offset in OFFSETS:
        for row in rows:
            sys.stdout.buffer.write(GREY * offset + row + GREY * (WIDTH - width - offset))


if __name__ == "__main__":
    main()
