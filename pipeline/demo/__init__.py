"""The offline demo: a toy hub of tiny but structurally real models, real photos, and the run over both.

This is the only place that knows a toy. `toy_hub.build_toy_hub` writes the hub's folder, `photos.build_photos` the
real images; nothing downstream can tell them from the public hub and a folder of photographs.
"""
