package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	luajson "layeh.com/gopher-json"
)

// health is what Argo CD shows.
type health struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

var healthCodes = map[string]bool{"Progressing": true, "Suspended": true, "Healthy": true, "Degraded": true}

// formats are those of os.date that the scripts use.
var formats = strings.NewReplacer("%Y", "2006", "%m", "01", "%d", "02", "%H", "15", "%M", "04", "%S", "05")

// newState returns a Lua state as that of Argo CD 3.6 (util/lua/lua.go), at a time: scripts of argocd-cm have only these
// libraries and no global os; built-in scripts for health have all of Lua's (openLibs).
func newState(openLibs bool, now time.Time) *lua.LState {
	state := lua.NewState(lua.Options{SkipOpenLibs: !openLibs})
	if !openLibs {
		for name, open := range map[string]lua.LGFunction{
			lua.LoadLibName: lua.OpenPackage, lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable,
		} {
			state.Push(state.NewFunction(open))
			state.Push(lua.LString(name))
			state.Call(1, 0)
		}
	}
	// A library that is loaded already is not loaded again.
	if loaded, ok := state.GetField(state.Get(lua.RegistryIndex), "_LOADED").(*lua.LTable); ok {
		loaded.RawSetString(lua.OsLibName, lua.LNil)
	}
	state.PreloadModule(lua.OsLibName, func(state *lua.LState) int {
		state.Push(state.SetFuncs(state.NewTable(), map[string]lua.LGFunction{
			"time": func(state *lua.LState) int {
				state.Push(lua.LNumber(now.Unix()))
				return 1
			},
			"date": func(state *lua.LState) int {
				format, isUTC := strings.CutPrefix(state.CheckString(1), "!")
				if !isUTC {
					state.RaiseError("a local time")
				}
				state.Push(lua.LString(now.UTC().Format(formats.Replace(format))))
				return 1
			},
		}))
		return 1
	})
	return state
}

// runScript returns what a script returns for an object.
func runScript(script string, object *unstructured.Unstructured, openLibs bool, now time.Time) (lua.LValue, error) {
	source, err := os.ReadFile(script)
	if err != nil {
		return nil, err
	}
	state := newState(openLibs, now)
	defer state.Close()
	// Argo CD allows a second.
	limited, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	state.SetContext(limited)
	state.SetGlobal("obj", luaValue(state, object.DeepCopy().Object))
	if err := state.DoString(string(source)); err != nil {
		return nil, fmt.Errorf("%s: %w", script, err)
	}
	returned := state.Get(-1)
	if returned.Type() != lua.LTTable {
		return nil, fmt.Errorf("%s returns a %s", script, returned.Type())
	}
	return returned, nil
}

// luaValue converts a value of an object as Argo CD does.
func luaValue(state *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case int64:
		return lua.LNumber(value)
	case []any:
		list := state.CreateTable(len(value), 0)
		for _, item := range value {
			list.Append(luaValue(state, item))
		}
		return list
	case map[string]any:
		table := state.CreateTable(0, len(value))
		for key, item := range value {
			table.RawSetH(lua.LString(key), luaValue(state, item))
		}
		return table
	default:
		return luajson.DecodeValue(state, value)
	}
}

// healthOf runs the health script of a kind, as a built-in one and as one of argocd-cm.
func healthOf(dir string, object *unstructured.Unstructured, now time.Time) (health, error) {
	var seen [2]health
	for i, openLibs := range []bool{false, true} {
		returned, err := runScript(filepath.Join(directoryOf(dir, object), "health.lua"), object, openLibs, now)
		if err != nil {
			return health{}, err
		}
		data, err := luajson.Encode(returned)
		if err != nil {
			return health{}, err
		}
		if err := json.Unmarshal(data, &seen[i]); err != nil {
			return health{}, err
		}
		if !healthCodes[seen[i].Status] || seen[i].Message == "" {
			return health{}, fmt.Errorf("not a health: %s", data)
		}
	}
	if seen[0] != seen[1] {
		return health{}, fmt.Errorf("%v, but %v with all libraries", seen[0], seen[1])
	}
	return seen[0], nil
}

// runAction returns the object after an action, as Argo CD reads it back from Lua, where an empty object is an empty list.
func runAction(dir, action string, object *unstructured.Unstructured) (map[string]any, error) {
	script := filepath.Join(directoryOf(dir, object), "actions", action, "action.lua")
	returned, err := runScript(script, object, false, time.Now())
	if err != nil {
		return nil, err
	}
	changed := map[string]any{}
	if err := decode(returned, &changed); err != nil {
		return nil, err
	}
	restoreEmpty(changed, object.Object)
	return changed, nil
}

func restoreEmpty(changed, before map[string]any) {
	for key, value := range changed {
		changed[key] = restored(value, before[key])
	}
}

func restored(value, before any) any {
	switch value := value.(type) {
	case map[string]any:
		if was, ok := before.(map[string]any); ok {
			restoreEmpty(value, was)
		}
	case []any:
		if was, ok := before.(map[string]any); ok && len(was) == 0 && len(value) == 0 {
			return map[string]any{}
		}
		if was, ok := before.([]any); ok {
			for i := range min(len(value), len(was)) {
				value[i] = restored(value[i], was[i])
			}
		}
	}
	return value
}

// discover returns the names of the actions, and whether each is disabled.
func discover(dir string, object *unstructured.Unstructured) (map[string]bool, error) {
	script := filepath.Join(directoryOf(dir, object), "actions", "discovery.lua")
	returned, err := runScript(script, object, false, time.Now())
	if err != nil {
		return nil, err
	}
	actions := map[string]struct{ Disabled bool }{}
	if err := decode(returned, &actions); err != nil {
		return nil, err
	}
	disabled := map[string]bool{}
	for name, action := range actions {
		disabled[name] = action.Disabled
	}
	return disabled, nil
}

func decode(value lua.LValue, into any) error {
	data, err := luajson.Encode(value)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}
