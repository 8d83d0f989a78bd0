package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// healthTests is health_test.yaml of Argo CD.
type healthTests struct {
	Tests []struct {
		InputPath    string `json:"inputPath"`
		HealthStatus health `json:"healthStatus"`
	} `json:"tests"`
}

// actionTests is action_test.yaml of Argo CD.
type actionTests struct {
	DiscoveryTests []struct {
		InputPath string `json:"inputPath"`
		Result    []struct {
			Name     string `json:"name"`
			Disabled bool   `json:"disabled"`
		} `json:"result"`
	} `json:"discoveryTests"`
	ActionTests []struct {
		Action             string `json:"action"`
		InputPath          string `json:"inputPath"`
		ExpectedOutputPath string `json:"expectedOutputPath"`
	} `json:"actionTests"`
}

const requestedAt = "oauth.evolutionx.io/renew-requested-at"

// runTests runs the tests of the scripts in the form in which Argo CD keeps them beside its built-in scripts, and returns how
// many there are.
func runTests(dir string) (any, error) {
	count := 0
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch filepath.Base(path) {
		case "health.lua":
			return testHealth(dir, filepath.Dir(path), &count)
		case "discovery.lua":
			return testActions(dir, filepath.Dir(path), &count)
		default:
			return nil
		}
	})
	return map[string]int{"tests": count}, err
}

func testHealth(dir, scripts string, count *int) error {
	var tests healthTests
	if err := readYAML(filepath.Join(scripts, "health_test.yaml"), &tests); err != nil {
		return err
	}
	for _, test := range tests.Tests {
		object, err := readYAMLObject(filepath.Join(scripts, test.InputPath))
		if err != nil {
			return err
		}
		found, err := healthOf(dir, object, time.Now())
		if err != nil {
			return err
		}
		if found != test.HealthStatus {
			return fmt.Errorf("%s in %s is %v, not %v", test.InputPath, scripts, found, test.HealthStatus)
		}
		*count++
	}
	return nil
}

func testActions(dir, scripts string, count *int) error {
	var tests actionTests
	if err := readYAML(filepath.Join(scripts, "action_test.yaml"), &tests); err != nil {
		return err
	}
	for _, test := range tests.DiscoveryTests {
		object, err := readYAMLObject(filepath.Join(scripts, test.InputPath))
		if err != nil {
			return err
		}
		found, err := discover(dir, object)
		if err != nil {
			return err
		}
		wanted := map[string]bool{}
		for _, action := range test.Result {
			wanted[action.Name] = action.Disabled
		}
		if !reflect.DeepEqual(found, wanted) {
			return fmt.Errorf("the actions of %s are %v, not %v", test.InputPath, found, wanted)
		}
		*count++
	}
	for _, test := range tests.ActionTests {
		object, err := readYAMLObject(filepath.Join(scripts, test.InputPath))
		if err != nil {
			return err
		}
		wanted, err := readYAMLObject(filepath.Join(scripts, test.ExpectedOutputPath))
		if err != nil {
			return err
		}
		before := time.Now().Add(-time.Second)
		changed, err := runAction(dir, test.Action, object)
		if err != nil {
			return err
		}
		if test.Action == "renew" {
			if err := normalize(changed, before); err != nil {
				return err
			}
		}
		if !reflect.DeepEqual(changed, wanted.Object) {
			return fmt.Errorf("%s of %s is %v, not %v", test.Action, test.InputPath, changed, wanted.Object)
		}
		*count++
	}
	return nil
}

// normalize puts the time of the expected output in the place of the present one.
func normalize(object map[string]any, before time.Time) error {
	text, _, err := unstructured.NestedString(object, "metadata", "annotations", requestedAt)
	if err != nil {
		return err
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil || at.Before(before) || at.After(time.Now()) {
		return fmt.Errorf("%q is not the present time", text)
	}
	return unstructured.SetNestedField(object, "0001-01-01T00:00:00Z", "metadata", "annotations", requestedAt)
}

func readYAMLObject(path string) (*unstructured.Unstructured, error) {
	object := &unstructured.Unstructured{}
	return object, readYAML(path, &object.Object)
}

func readYAML(path string, into any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return yaml.Unmarshal(data, into)
}
