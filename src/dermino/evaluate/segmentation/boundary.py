"""How far the outlines of predicted and true lesions lie apart."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def hausdorff95(predicted: np.ndarray, lesion: np.ndarray) -> float:
    """Return the 95th percentile of the Hausdorff distance between two outlines.

    An outline is the pixels of a mask with a neighbour (of four) outside it. From each outline the
    distances to the nearest pixel of the other are taken; of their two 95th percentiles the larger
    is the result, as in MONAI. (Others pool the distances of both directions first.)

    Parameters
    ----------
    predicted, lesion:
        Masks (H, W), bool.

    Returns
    -------
    float
        In pixels; NaN if one of the masks is empty, for then there is no distance.
    """
    if not (predicted.any() and lesion.any()):
        return float("nan")
    # Distances between outlines do not change when what surrounds both is cut away.
    box = ndimage.find_objects((predicted | lesion).astype(np.uint8))[0]
    outlines = [mask & ~ndimage.binary_erosion(mask) for mask in (predicted[box], lesion[box])]
    there, back = (
        ndimage.distance_transform_edt(~other)[own] for own, other in (outlines, outlines[::-1])
    )
    return float(max(np.percentile(there, 95), np.percentile(back, 95)))
