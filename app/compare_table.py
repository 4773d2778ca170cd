"""The table under every comparison: each line against a baseline, with the noise and the verdict."""

import pandas as pd
import streamlit as st

from app.explain_compare import verdict_table


def show_table(verdicts: pd.DataFrame, baseline: str, sentence: str) -> None:
    """Draws it, its sentence below; columns that say nothing are left out."""
    table = verdict_table(verdicts, baseline)
    points = st.column_config.NumberColumn
    st.dataframe(
        table,
        hide_index=True,
        column_config={
            "accuracy (%)": points(
                format="%.2f", help="On the test images; the mean over the seeds where there are several."
            ),
            "± over seeds": points(format="%.2f", help="Standard error of that mean."),
            f"over {baseline}": points(format="%+.2f", help="Difference of the accuracies, in percentage points."),
            "noise (±)": points(
                format="%.2f",
                help="95 % of the differences that luck alone makes lie within so many points: which test images there are, and, "
                "from two seeds on, which were drawn. Both are compared in pairs.",
            ),
            "seconds": points(
                format="%.3g",
                help="To prune once from nothing on this machine, without evaluation.",
            ),
        },
    )
    st.caption(sentence)
