"""The paper's figures and tables, drawn from Datasets that the analysis commands wrote.

    python -m figures                                        # the shipped models on drawn scenes, in a few minutes
    python -m figures fig4 table1 --data results/figures     # only these, from finished Datasets

| entry | shows | reads the Dataset of |
|---|---|---|
| `fig1` `fig1_radar` | label maps of X_sum, X_res, X_attn and ClearCLIP; methods on all benchmarks | maps_fig7; compare |
| `fig2` | norms of X_res and X_attn, and mIoU, for each attention | norms_miou |
| `fig3` | mIoU and label maps of X_sum, X_res, X_attn | layers, maps_fig7 |
| `fig4a` `fig4b` `fig4c` | entropy, maximum, sorted channel means of every layer, CLIP against DINO | statistics |
| `fig5` `fig8` | attention × residual × FFN, mean over datasets (5) and each dataset (8) | ablation |
| `fig6` | X_res + α·X_attn | alpha |
| `fig7` `fig10` `fig11` | label maps of CLIP, MaskCLIP, SCLIP, ClearCLIP on COCO-Stuff, ADE20K, Context59 | maps_fig7, … |
| `fig9` | token × channel surfaces | featuremaps |
| `table1` … `table5` | RC × FFN; methods without and with background; pruned residual; ClearCLIP added | ablation, compare, beta |
| `layers` `prototypes` `tokens` | beyond the paper: every layer read with text, or without; outlier tokens | the run of that name |

`catalogue` holds the entries: name, caption, the runs that are needed, and the function that draws their Datasets.
`runs` says which command computes what, `plan` computes what is missing, `drawing` and `tables` write files, and `index`
makes the page.
"""
