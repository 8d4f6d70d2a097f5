"""Where the network looked: its class activation map drawn over the image (T10). Copied into every release.

The network gives the map with every answer (its output `activation`: the evidence for the likeliest label); drawing it
costs as much as decoding the image again, so model.py asks for it only where a request does.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

STRENGTH = 0.6
"""Share of the colour where the evidence is strongest; where there is none the image stays as it is."""


def overlay(image: NDArray[np.uint8], activation: NDArray[np.float32]) -> bytes:
    """A PNG of uint8 [s, s, 3] (RGB) under the map float32 [h, w] in 0..1; warm colours carried the answer."""
    side = image.shape[:2]
    evidence = np.clip(cv2.resize(activation, side[::-1], interpolation=cv2.INTER_CUBIC), 0, 1)
    heat = cv2.applyColorMap((evidence * 255).astype(np.uint8), cv2.COLORMAP_TURBO)
    share = (STRENGTH * evidence)[:, :, None]
    drawn = image[:, :, ::-1] * (1 - share) + heat * share
    written, content = cv2.imencode(".png", drawn.round().astype(np.uint8))
    if not written:
        raise RuntimeError(f"OpenCV writes no PNG of shape {drawn.shape}")
    return content.tobytes()
