"""The range over which a tensor is quantized: how it is observed, and where it is cut.

| file          | what                                                                  |
|---------------|-----------------------------------------------------------------------|
| histogram.py  | a histogram of a stream whose range is not known beforehand           |
| thresholds.py | T by divergence (KL, symmetric KL, JS) and by percentile              |
| variants.py   | the KL search of MXNet, and as onnxruntime has it                     |
| error.py      | (r_min, r_max) by squared error or another norm                       |
| observers.py  | one interface over all methods, those of published operators too      |
| curves.py     | every criterion at every threshold, for the plot                      |
| calibrate.py  | ranges of a net's nodes, in one pass over the calibration data        |

>>> import numpy as np
>>> seen = observer("percentile", percentile=90)
>>> for batch in np.arange(100.0).reshape(10, 10):
...     seen.update(batch)
>>> [round(end) for end in seen.range(bits=8, grid="narrow")]
[-89, 89]
"""

from .calibrate import calibrated, observed
from .curves import threshold_curves
from .error import mse_range, range_error
from .histogram import Histogram
from .observers import METHODS, Observer, observer
from .thresholds import (histogram_percentile, js_divergences, js_threshold, kl_divergences,
                         kl_threshold, reverse_divergences, symmetric_kl_threshold)
from .variants import signed_kl_threshold

__all__ = ["METHODS", "Histogram", "Observer", "calibrated", "histogram_percentile",
           "js_divergences", "js_threshold", "kl_divergences", "kl_threshold", "mse_range",
           "observed", "observer", "range_error", "reverse_divergences", "signed_kl_threshold",
           "symmetric_kl_threshold", "threshold_curves"]
