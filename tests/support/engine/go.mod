module private-llm.invalid/engine

go 1.26
