"""WoodFisher Explorer: the frame around its pages. Run with ``streamlit run app/main.py``."""

import streamlit as st

from app.binding import settings_of
from app.shared import loaded, resume_jobs

st.set_page_config(page_title="WoodFisher Explorer", page_icon="✂️", layout="wide")

# In the order in which someone new would walk. All names stand in the bar, from 1280 pixels on: with icons
# two would be hidden in a menu.
SECTIONS = {
    "Learn": [
        st.Page(
            "app_pages/learn.py",
            title="Learn",
            help="How does it work? The derivation in steps.",
        ),
    ],
    "Understand": [
        st.Page(
            "app_pages/explore.py",
            title="Explore",
            help="What does this setting do?",
            default=True,
        ),
        st.Page(
            "app_pages/sensitivity.py",
            title="Sensitivity",
            help="How much do the Fisher's settings matter?",
        ),
        st.Page(
            "app_pages/trust.py",
            title="Trust",
            help="Where does the quadratic model stop being true?",
        ),
        st.Page(
            "app_pages/compensate.py",
            title="Compensate",
            help="What do the survivors do?",
        ),
    ],
    "Decide": [
        st.Page(
            "app_pages/compare.py",
            title="Compare",
            help="Which method wins, where, and at what cost?",
        ),
        st.Page(
            "app_pages/gradual.py",
            title="Gradual",
            help="How should sparsity grow?",
        ),
        st.Page(
            "app_pages/speed.py",
            title="Speed",
            help="What did I gain?",
        ),
    ],
    "Mine": [
        st.Page(
            "app_pages/your_model.py",
            title="Your model",
            help="What about my own network?",
        ),
        st.Page(
            "app_pages/runs.py",
            title="Runs",
            help="What have I tried?",
        ),
    ],
}
page = st.navigation([page for pages in SECTIONS.values() for page in pages], position="top")
resume_jobs()
with settings_of(page):
    page.run()
loaded(page.url_path)
