package llm

import (
	"strings"
	"testing"
)

func TestBadConfigurationsAreRefusedWithThePlace(t *testing.T) {
	engines := map[string]*Engine{"e": {Instances: []string{"h:1"}}}
	if err := (&Catalog{Models: []*Model{{ID: "a", Engine: "e"}}}).provisionWithEngines(); err == nil {
		t.Error("engines may not be left out where they are asked")
	}
	one := func(e *Engine) map[string]*Engine { return map[string]*Engine{"e": e} }
	onlyA := []*Model{{ID: "a", Engine: "e"}}
	for want, c := range map[string]Catalog{
		"models is empty":                       {Engines: engines},
		"there is no engine":                    {Engines: engines, Models: []*Model{{ID: "a", Engine: "x"}}},
		"engines.e: instances is empty":         {Engines: one(&Engine{}), Models: onlyA},
		"engines.e: instances[1] is \"h\"":      {Engines: one(&Engine{Instances: []string{"h:1", "h"}}), Models: onlyA},
		"engines.e: instances[1]: h:1 is there": {Engines: one(&Engine{Instances: []string{"h:1", "h:1"}}), Models: onlyA},
		"engines.e: kind":                       {Engines: one(&Engine{Instances: []string{"h:1"}, Kind: "x"}), Models: onlyA},
		"engines.e: max_in_flight":              {Engines: one(&Engine{Instances: []string{"h:1"}, MaxInFlight: -1}), Models: onlyA},
		"engines.e: key_file":                   {Engines: one(&Engine{Instances: []string{"h:1"}, KeyFile: "key"}), Models: onlyA},
		"models[0]: role":                       {Engines: engines, Models: []*Model{{ID: "a", Engine: "e", Role: "x"}}},
		"models[0]: name":                       {Engines: engines, Models: []*Model{{ID: "*", Engine: "e"}}},
		"models[0]: max_in_flight":              {Engines: engines, Models: []*Model{{ID: "a", Engine: "e", RequestsPerMinute: -1}}},
		`"a" is taken by`:                       {Engines: engines, Models: []*Model{{ID: "b", Engine: "e", Aliases: []string{"a"}}, {ID: "a", Engine: "e"}}},
		"models[0]: is null":                    {Engines: engines, Models: []*Model{nil}},
		"engines.e: is null":                    {Engines: one(nil), Models: onlyA},
		`models[0]: fallback is "b": there`:     {Engines: engines, Models: []*Model{{ID: "a", Engine: "e", Fallback: "b"}}},
		`models[0]: fallback "b" has role`:      {Engines: engines, Models: []*Model{{ID: "a", Engine: "e", Fallback: "b"}, {ID: "b", Engine: "e", Role: "embedding"}}},
		`models[0]: fallback "a" leads back`:    {Engines: engines, Models: []*Model{{ID: "a", Engine: "e", Fallback: "a"}}},
		`models[0]: fallback "bb" leads back`: {Engines: engines, Models: []*Model{{ID: "a", Engine: "e", Fallback: "bb"},
			{ID: "b", Engine: "e", Aliases: []string{"bb"}, Fallback: "c"}, {ID: "c", Engine: "e", Fallback: "b"}}},
	} {
		if err := c.provision(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	chain := Catalog{Engines: engines, Models: []*Model{{ID: "a", Engine: "e", Fallback: "b"}, {ID: "b", Engine: "e", Fallback: "c"}, {ID: "c", Engine: "e"}}}
	if err := chain.provision(); err != nil || chain.Models[0].fallback.fallback.ID != "c" {
		t.Errorf("a chain that ends: %v", err)
	}
}
