"""The seam between shells and engine (`service`), and its in-process side (`local`)."""
