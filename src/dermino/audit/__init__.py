"""Which images, lesions and patients are the same, within and across manifests."""

from dermino.audit.audit import Audit, audit

__all__ = ["Audit", "audit"]
