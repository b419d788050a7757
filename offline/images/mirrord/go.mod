module private-llm.invalid/mirrord

go 1.26
