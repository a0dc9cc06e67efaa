"""The paper's figures and tables, drawn from Datasets that the analysis commands wrote.

    python -m figures                                        # the shipped models on drawn scenes, in a few minutes
    python -m figures fig4 table1 --data results/figures     # only these, from finished Datasets

`catalogue` holds the entries: name, caption, the runs that are needed, and the function that draws their Datasets.
`runs` says which command computes what, `plan` computes what is missing, `drawing` and `tables` write files, and `index`
makes the page.
"""
