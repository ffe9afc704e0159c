"""Makes the camera-motion weights that the package includes: generator, training, evaluation.

labels -> textures, pictures -> paths -> render, degrade -> generator -> train, evaluate.
Run from the repository root: `python -m camera_motion.train`, `python -m camera_motion.evaluate`.
"""
