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
    "segearth_ov": "SegEarth-OV (no upsampler)",
    "resclip": "ResCLIP",
    "resclip+clearclip": "ResCLIP + ClearCLIP",
    "resclip+sclip": "ResCLIP + SCLIP",
    "resclip_rcs": "ResCLIP (RCS alone)",
    "resclip_rcs+clearclip": "ResCLIP (RCS alone) + ClearCLIP",
    "itaclip": "ITACLIP (attention)",
    "scra": "RADSeg (SCRA)",
    "proxyclip": "ProxyCLIP",
    "trident": "Trident (without SAM)",
    "lposs": "LPOSS",
    "lposs+": "LPOSS+",
    "sc_clip": "SC-CLIP",
    "sfp": "SFP",
    "corrclip": "CorrCLIP",
    "oracle": "Oracle (true masks)",
}
ADDITION_LABEL = {"pamr": "PAMR", "surgery": "feature surgery"}

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
    >>> method_label("sclip+clearclip+pamr")
    'SCLIP + ClearCLIP + PAMR'
    """
    base, _, addition = name.rpartition("+")
    if name not in METHOD_LABEL and base and addition in ADDITION_LABEL:
        return f"{method_label(base)} + {ADDITION_LABEL[addition]}"
    return METHOD_LABEL.get(name, name)
