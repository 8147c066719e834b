"""The demonstration that ships with the package: a small synthetic network, and synthetic cells.

The bundle (`demo_bundle/`, made by `export/demo/make_demo_bundle.py`) has the real gene list of the Norman data and a
network trained on made-up responses. Its predictions mean nothing in biology.
"""

from scgenept_rt.demo.responses import demo_control_cells
from scgenept_rt.demo.screen import demo_screen, norman_layout

__all__ = ["demo_control_cells", "demo_screen", "norman_layout"]
