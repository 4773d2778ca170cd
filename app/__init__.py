"""The pages: Streamlit, charts and words around ``woodfisher_core``."""

import os

# Read by OpenMP once, when torch is loaded; the worker of the jobs inherits it. Threads of OpenMP wait for each other in a
# loop by default: where two processes, or two people's pages, share the cores, each then takes time from what it waits for
# (two notebooks at once on two cores: 30 s instead of 8 s).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
