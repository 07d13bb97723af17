"""luthien_guard"""
