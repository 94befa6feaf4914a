"""One module a data set: `photos(folder)` yields its labelled faces as its owners hand them out, `SIDE_PX` is the crop's side."""
