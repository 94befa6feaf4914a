"""Checks a screendump of the board's display: the camera's picture, and the overlay on it."""

from report import Case

WIDTH, HEIGHT = 640, 480  # of the camera
# Colours of crates/faceptor-results/src/overlay.rs: a face's box and its landmarks.
BOX, DOT = (70, 220, 110), (255, 240, 80)


class Screen:
    """A portable pixmap written by QEMU."""

    def __init__(self, path):
        magic, size, depth, self.pixels = path.read_bytes().split(b"\n", 3)
        if magic != b"P6" or depth != b"255":
            raise ValueError(f"{path} is not a pixmap with 8 bits a colour")
        self.width, self.height = map(int, size.split())

    def at(self, x, y):
        start = (y * self.width + x) * 3
        return tuple(self.pixels[start : start + 3])

    def near(self, x, y, colour, reach):
        """Returns True if a pixel of the colour lies within `reach` pixels."""
        rows = range(max(0, y - reach), min(self.height, y + reach + 1))
        columns = range(max(0, x - reach), min(self.width, x + reach + 1))
        return any(alike(self.at(column, row), colour, 12) for row in rows for column in columns)


def alike(one, two, tolerance):
    return all(abs(a - b) <= tolerance for a, b in zip(one, two))


def colour_of_yuyv(data, x, y):
    """Returns a pixel of a raw frame as RGB (BT.601, limited range)."""
    at = (y * WIDTH + x) * 2
    pair = at & ~3
    luma, u, v = 1.164383 * (data[at] - 16), data[pair + 1] - 128, data[pair + 3] - 128
    rgb = luma + 1.596027 * v, luma - 0.391762 * u - 0.812968 * v, luma + 2.017232 * u
    return tuple(min(255, max(0, round(value))) for value in rgb)


def judge(path, frame, lines):
    """Checks the screendump. `frame` is the raw YUYV of the camera, `lines` are its JSON lines around the time of the dump."""
    case = Case("faces", "the display shows the camera's picture with the overlay on it")
    screen = Screen(path)
    # As large as fits, centred, with black margins.
    scale = min(screen.width / WIDTH, screen.height / HEIGHT)
    left, top = (screen.width - round(WIDTH * scale)) // 2, (screen.height - round(HEIGHT * scale)) // 2

    def place(x, y):
        """Returns the position of a camera pixel on the screen."""
        return left + round((x + 0.5) * scale - 0.5), top + round((y + 0.5) * scale - 0.5)

    margin = [screen.at(x, y) for y in range(0, screen.height, 16) for x in (left // 2, screen.width - 1 - left // 2)]
    case.check(left < 8 or all(pixel == (0, 0, 0) for pixel in margin), "it is not black beside the picture")

    # Scaling moves edges by a pixel or two, and the overlay covers some of them.
    grid = [(x, y) for y in range(4, HEIGHT - 4, 8) for x in range(4, WIDTH - 4, 8)]
    same = sum(alike(screen.at(*place(x, y)), colour_of_yuyv(frame, x, y), 24) for x, y in grid) / len(grid)
    case.facts["same_as_camera_percent"] = round(100 * same, 1)
    case.check(same > 0.85, f"only {same:.0%} of the picture are what the camera shows")

    def drawn(face):
        """Returns the shares of a face's landmarks and of its box that are on the screen."""
        points = face["landmarks"]["points"]
        x, y, width, height = face["box"]
        sides = [place(x + part * width / 20, edge) for part in range(1, 20) for edge in (y, y + height)]
        sides += [place(edge, y + part * height / 20) for part in range(1, 20) for edge in (x, x + width)]
        dots = sum(screen.near(*place(*point), DOT, 3) for point in points) / len(points)
        return dots, sum(screen.near(*side, BOX, 3) for side in sides) / len(sides)

    # It is not known which of the lines was on the screen; one of them must match.
    dots, box = max((drawn(face) for line in lines for face in line["faces"]), key=sum, default=(0.0, 0.0))
    case.facts.update(landmarks_drawn_percent=round(100 * dots), box_drawn_percent=round(100 * box))
    case.check(dots > 0.9, f"only {dots:.0%} of the landmarks are drawn")
    # A caption may cover a part of the box.
    case.check(box > 0.7, f"only {box:.0%} of the box is drawn")
    return case
