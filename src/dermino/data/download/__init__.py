"""Fetching datasets that their publishers offer openly, politely and only on the user's word."""

from dermino.data.download.download import Downloaded, download
from dermino.data.download.offer import Offer, read_offers

__all__ = ["Downloaded", "Offer", "download", "read_offers"]
