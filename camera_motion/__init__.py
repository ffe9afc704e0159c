"""How the camera-movement weights that ship with the package are made: generator, training, proof.

labels -> textures, pictures -> paths -> render, degrade -> generator -> train, evaluate.
Run from the repository root: `python -m camera_motion.train`, `python -m camera_motion.evaluate`.
"""
