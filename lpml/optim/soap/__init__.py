"""SOAP in parts: bases of eigenvectors, Adam's moments in them; `optimizer` joins them.

Blocks, tiles, statistics and the condition of a refresh are Shampoo's.
"""

from lpml.optim.soap.eigenbasis import eigenbases
from lpml.optim.soap.optimizer import soap
from lpml.optim.soap.refresh import Turning
from lpml.optim.soap.state import SoapState
from lpml.optim.soap.transformation import scale_by_soap

__all__ = ["SoapState", "Turning", "eigenbases", "scale_by_soap", "soap"]
