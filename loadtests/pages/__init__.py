"""How a run is shown: pictures (`pictures` names them), one self-contained page, and a few lines on the terminal.

A picture is drawn three times: as a PNG, and for the page as two SVGs, wide and narrow, whose colours follow the reader's light
or dark theme. `style` and `canvas` are what all pictures share.
"""
