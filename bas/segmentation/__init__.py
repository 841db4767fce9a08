"""BAS for weakly supervised semantic segmentation: from image labels to masks (Zhai et al., IJCV 2023).

Maps of a BAS and of a CAM network are added, sharpened by a dense CRF, and spread by a random walk along the
affinities that IRN (Ahn et al., CVPR 2019) learns from them.
"""
