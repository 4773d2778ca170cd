"""The commands of ``python -m woodfisher_core``, one file each."""
