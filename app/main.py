"""WoodFisher Explorer: the frame around its pages. Run with ``streamlit run app/main.py``."""

import streamlit as st

from app.shared import resume_jobs

st.set_page_config(page_title="WoodFisher Explorer", page_icon="✂️", layout="wide")

page = st.navigation(
    {
        "Understand": [
            st.Page(
                "app_pages/explore.py",
                title="Explore",
                icon=":material/explore:",
                help="What does this setting do?",
                default=True,
            ),
            st.Page(
                "app_pages/sensitivity.py",
                title="Sensitivity",
                icon=":material/grid_on:",
                help="How much do the Fisher's settings matter?",
            ),
        ],
        "Decide": [
            st.Page(
                "app_pages/methods.py",
                title="Methods",
                icon=":material/compare_arrows:",
                help="Which method keeps most accuracy?",
            ),
            st.Page(
                "app_pages/gradual.py",
                title="Gradual",
                icon=":material/stairs:",
                help="What does training in between bring back?",
            ),
        ],
        "Mine": [
            st.Page(
                "app_pages/runs.py",
                title="Runs",
                icon=":material/history:",
                help="What have I tried?",
            ),
        ],
    },
    position="top",
)
resume_jobs()
page.run()
