"""The demonstration that ships with the package: a small synthetic network, and synthetic cells.

The bundle (`demo_bundle/`, made by `export/demo/make_demo_bundle.py`) has the real gene list of the Norman data and a
network trained on made-up responses. Its predictions mean nothing in biology.
"""

from scgenept_rt.bundle import demo_bundle_path
from scgenept_rt.demo.cells import DEMO_CELLS, demo_control_cells, draw_expression, expression_rates
from scgenept_rt.demo.responses import DEMO_PERTURBATIONS, PlantedResponses
from scgenept_rt.demo.screen import demo_screen, norman_layout

NOTICE = (
    "The demo network is synthetic: it was trained on made-up responses, and its predictions mean nothing in biology."
)

__all__ = [
    "DEMO_CELLS",
    "DEMO_PERTURBATIONS",
    "NOTICE",
    "PlantedResponses",
    "demo_bundle_path",
    "demo_control_cells",
    "demo_screen",
    "draw_expression",
    "expression_rates",
    "norman_layout",
]
