"""What methods are called in figures and tables, and whose protocol their authors' numbers are of."""

from __future__ import annotations

METHOD_LABEL = {
    "clip": "CLIP",
    "maskclip": "MaskCLIP",
    "clip_surgery": "CLIPSurgery",
    "sclip": "SCLIP",
    "gem": "GEM",
    "clearclip": "ClearCLIP",
    "maskclip+clearclip": "MaskCLIP + ClearCLIP",
    "sclip+clearclip": "SCLIP + ClearCLIP",
    "gem+clearclip": "GEM + ClearCLIP",
    "naclip": "NACLIP",
    "segearth_ov": "SegEarth-OV",
    "resclip": "ResCLIP (in part)",
    "proxyclip": "ProxyCLIP",
    "sc_clip": "SC-CLIP",
    "sfp": "SFP",
}

# the protocol (see clearclip.evaluation.protocol) in which its authors measured a method; others have one of their own
AUTHORS_PROTOCOL = {
    "sclip": "sclip",
    "clearclip": "clearclip",
    "maskclip+clearclip": "clearclip",
    "sclip+clearclip": "clearclip",
    "gem+clearclip": "clearclip",
    "naclip": "sclip",
    "resclip": "sclip",
    "resclip+clearclip": "sclip",
    "resclip+sclip": "sclip",
    "resclip_rcs": "sclip",
    "sc_clip": "sclip",
    "sfp": "sclip",
    "proxyclip": "proxyclip",
    "corrclip": "proxyclip",
    "trident": "trident",
    "lposs": "clearclip with windows of 224 and stride 112",
    "lposs+": "clearclip with windows of 224 and stride 112",
}


def method_label(name: str) -> str:
    """A recipe as a reader knows it.

    >>> method_label("clearclip"), method_label("mine")
    ('ClearCLIP', 'mine')
    """
    return METHOD_LABEL.get(name, name)
