"""Any aggregator, weighting or scalarizer of TorchJD by its name, as `torchjd:NAME`.

A name that TorchJD has twice (`Constant`, `Mean`, `Random`, `Sum`) is the scalarizer; the
aggregator is reached by its weighting, `torchjd:MeanWeighting`.
"""

from mtlbench.strategies.torchjd_bridge.catalogue import UNFIT, find

__all__ = ["UNFIT", "find"]
