//go:build tools

// Package tools pins the authorization server that the tests run.
package tools

import _ "github.com/ory/hydra/v2"
