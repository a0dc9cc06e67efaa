"""The short names of models, and the libraries that the long ones belong to."""

ALIASES: dict[str, str] = {
    **{
        f"dino_vit{s}{p}": f"timm:vit_{name}_patch{p}_224.dino"
        for s, name in [("s", "small"), ("b", "base")]
        for p in (16, 8)
    },
    **{
        f"dinov2_vit{s}14{reg}": f"timm:vit_{name}_patch14{'_reg4' if reg else ''}_dinov2.lvd142m"
        for s, name in [("s", "small"), ("b", "base"), ("l", "large"), ("g", "giant")]
        for reg in ("", "_reg")
    },
    **{
        f"dinov3_vit{s}16": f"timm:vit_{name}_patch16_dinov3.lvd1689m"
        for s, name in [("s", "small"), ("b", "base"), ("l", "large")]
    },
    "mae_vitb16": "timm:vit_base_patch16_224.mae",
    "clip_vitb32": "open_clip:ViT-B-32-quickgelu/openai",
    "clip_vitb16": "open_clip:ViT-B-16-quickgelu/openai",
    "clip_vitl14": "open_clip:ViT-L-14-quickgelu/openai",
    "clip_vitl14_336": "open_clip:ViT-L-14-336-quickgelu/openai",
    "openclip_vitb16": "open_clip:ViT-B-16/laion2b_s34b_b88k",
    "openclip_vitl14": "open_clip:ViT-L-14/laion2b_s32b_b82k",
    "openclip_vith14": "open_clip:ViT-H-14/laion2b_s32b_b79k",
    "metaclip_vitb16": "open_clip:ViT-B-16-quickgelu/metaclip_fullcc",
    "metaclip_vitl14": "open_clip:ViT-L-14-quickgelu/metaclip_fullcc",
    "siglip2_vitb16": "open_clip:ViT-B-16-SigLIP2/webli",
    "eva02_clip_vitb16": "open_clip:EVA02-B-16/merged2b_s8b_b131k",
    "clip_tiny": "zoo:clip_tiny",
    "dino_tiny": "zoo:dino_tiny",
    "blip_vitb16": "transformers:Salesforce/blip-itm-base-coco",
    "blip_vitl16": "transformers:Salesforce/blip-itm-large-coco",
}
SHIPPED = ("clip_tiny", "dino_tiny")  # come with the package, need no network

LIBRARIES: dict[
    str, str
] = {  # what stands before the colon → the file of that library, whose `plan` takes what stands behind it
    "timm": "clearclip.models.timm",
    "open_clip": "clearclip.models.open_clip",
    "transformers": "clearclip.models.blip",
    "zoo": "clearclip.models.tiny",
}

ELSEWHERE = ("hf-hub:", "hf_hub:", "local-dir:")  # what libraries write before weights that are not in their tables
