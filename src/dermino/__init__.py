"""dermino: turn a dermatology image archive into a foundation model and measure it.

Research software, not a medical device.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("dermino")
except PackageNotFoundError:
    __version__ = "0+unknown"

__all__ = ["__version__"]
