// Program celgolden says what Kubernetes makes of device selectors: it reads cases as JSON lines from standard input
// and writes each, with its answer, to standard output.
//
// A case is {"expression", "driver", "device", "lists"}; the device is one of a ResourceSlice, without its name.
// The answer is one of
//
//	"matches": bool, "cost": the cost of finding out
//	"refused": why the expression does not compile
//	"fault":   why its evaluation fails
//
// An expression that is refused for its type alone ("must evaluate to bool") gets both "refused" and, as "value", what
// it evaluates to, so that functions of every type can be told apart by their results.
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"slices"
	"strconv"
	"strings"

	celgo "github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	v1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/library"
	"k8s.io/dynamic-resource-allocation/cel"
)

// Case is a question and, once answered, its answer. Its JSON keeps what it was read from.
type Case struct {
	Expression string    `json:"expression"`
	Driver     string    `json:"driver"`
	Device     v1.Device `json:"device"`
	Lists      bool      `json:"lists"`
}

// Answer is what is added to a case.
type Answer struct {
	Matches *bool   `json:"matches,omitempty"`
	Cost    *uint64 `json:"cost,omitempty"`
	Refused string  `json:"refused,omitempty"`
	Fault   string  `json:"fault,omitempty"`
	Value   any     `json:"value,omitempty"`
}

func main() {
	in, out := bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)
	for {
		line, err := in.ReadBytes('\n')
		if err == io.EOF && len(line) == 0 {
			break
		}
		if err != nil && err != io.EOF {
			log.Fatal(err)
		}
		var asked Case
		if err := json.Unmarshal(line, &asked); err != nil {
			log.Fatalf("%s: %v", line, err)
		}
		written, err := json.Marshal(answer(asked))
		if err != nil {
			log.Fatalf("%s: %v", line, err)
		}
		fmt.Fprintf(out, "%s\n", written)
		if err := out.Flush(); err != nil {
			log.Fatal(err)
		}
	}
}

func answer(asked Case) (found Answer) {
	defer func() {
		if fault := recover(); fault != nil {
			found = Answer{Refused: fmt.Sprintf("panic: %v", fault)}
		}
	}()
	features := cel.Features{EnableConsumableCapacity: true, EnableListTypeAttributes: asked.Lists}
	compiler := cel.GetCompiler(features)
	options := cel.Options{DisableCostEstimation: true}
	compiled := compiler.CompileCELExpression(asked.Expression, options)
	if compiled.Error == nil {
		matches, details, err := compiled.DeviceMatches(context.Background(), device(asked))
		return result(details, err, func(found *Answer) { found.Matches = &matches })
	}
	found.Refused = compiled.Error.Detail
	if !strings.HasPrefix(found.Refused, "must evaluate to") {
		return found
	}
	// The same environment evaluates it when asked without the type check of the result.
	env := compiler.CompileCELExpression("true", options).Environment
	ast, issues := env.Compile(asked.Expression)
	if issues != nil {
		log.Fatalf("%s: %v", asked.Expression, issues)
	}
	program, err := env.Program(ast, celgo.CostLimit(v1.CELSelectorExpressionMaxCost), celgo.InterruptCheckFrequency(100))
	if err != nil {
		found.Refused = err.Error()
		return found
	}
	value, details, err := program.ContextEval(context.Background(), map[string]any{"device": variables(env, asked)})
	evaluated := result(details, err, func(found *Answer) { found.Value = plain(value) })
	evaluated.Refused = found.Refused
	return evaluated
}

func result(details *celgo.EvalDetails, err error, success func(*Answer)) Answer {
	if err != nil {
		return Answer{Fault: err.Error()}
	}
	found := Answer{Cost: details.ActualCost()}
	success(&found)
	return found
}

func device(asked Case) cel.Device {
	return cel.Device{
		Driver:                   asked.Driver,
		AllowMultipleAllocations: asked.Device.AllowMultipleAllocations,
		Attributes:               asked.Device.Attributes,
		Capacity:                 asked.Device.Capacity,
	}
}

// total is a map that finds an empty map under unknown keys, as package cel makes them for domains.
type total struct {
	traits.Mapper
	empty ref.Val
}

func (m total) Find(key ref.Val) (ref.Val, bool) {
	if value, found := m.Mapper.Find(key); found {
		return value, true
	}
	return m.empty, true
}

// variables does what package cel does inside DeviceMatches.
func variables(env *celgo.Env, asked Case) map[string]any {
	attributes, capacity := map[string]any{}, map[string]any{}
	put := func(into map[string]any, name v1.QualifiedName, value any) {
		domain, id, found := strings.Cut(string(name), "/")
		if !found {
			domain, id = asked.Driver, string(name)
		}
		if into[domain] == nil {
			into[domain] = map[string]any{}
		}
		into[domain].(map[string]any)[id] = value
	}
	for name, attribute := range asked.Device.Attributes {
		put(attributes, name, native(attribute))
	}
	for name, held := range asked.Device.Capacity {
		put(capacity, name, apiservercel.Quantity{Quantity: &held.Value})
	}
	adapter := env.CELTypeAdapter()
	empty := adapter.NativeToValue(map[string]any{})
	return map[string]any{
		"driver":                   asked.Driver,
		"allowMultipleAllocations": asked.Device.AllowMultipleAllocations != nil && *asked.Device.AllowMultipleAllocations,
		"attributes":               total{types.NewStringInterfaceMap(adapter, attributes), empty},
		"capacity":                 total{types.NewStringInterfaceMap(adapter, capacity), empty},
	}
}

func native(attribute v1.DeviceAttribute) any {
	switch {
	case attribute.IntValues != nil:
		return attribute.IntValues
	case attribute.BoolValues != nil:
		return attribute.BoolValues
	case attribute.StringValues != nil:
		return attribute.StringValues
	case attribute.VersionValues != nil:
		versions := []ref.Val{}
		for _, text := range attribute.VersionValues {
			versions = append(versions, version(text))
		}
		return versions
	case attribute.IntValue != nil:
		return *attribute.IntValue
	case attribute.BoolValue != nil:
		return *attribute.BoolValue
	case attribute.StringValue != nil:
		return *attribute.StringValue
	}
	return version(*attribute.VersionValue)
}

// plain writes a value as JSON that names its type.
func plain(value ref.Val) any {
	switch value := value.(type) {
	case types.Null:
		return map[string]any{"null": nil}
	case types.Bool:
		return map[string]any{"bool": bool(value)}
	case types.Int:
		return map[string]any{"int": strconv.FormatInt(int64(value), 10)}
	case types.Uint:
		return map[string]any{"uint": strconv.FormatUint(uint64(value), 10)}
	case types.Double:
		return map[string]any{"double": strconv.FormatFloat(float64(value), 'x', -1, 64)}
	case types.String:
		return map[string]any{"string": string(value)}
	case types.Bytes:
		return map[string]any{"bytes": hex.EncodeToString(value)}
	case types.Duration:
		return map[string]any{"duration": strconv.FormatInt(int64(value.Duration), 10)}
	case types.Timestamp:
		return map[string]any{"timestamp": fmt.Sprintf("%d.%09d", value.Unix(), value.Nanosecond())}
	case *types.Type:
		return map[string]any{"type": value.TypeName()}
	case *types.Optional:
		if !value.HasValue() {
			return map[string]any{"optional": nil}
		}
		return map[string]any{"optional": plain(value.GetValue())}
	case apiservercel.Quantity:
		return map[string]any{"quantity": decimal(value.Quantity)}
	case *apiservercel.Quantity:
		return map[string]any{"quantity": decimal(value.Quantity)}
	case apiservercel.Semver:
		return map[string]any{"semver": value.FinalizeVersion() + pre(value)}
	case apiservercel.IP:
		return map[string]any{"ip": value.Addr.String()}
	case apiservercel.CIDR:
		return map[string]any{"cidr": value.Prefix.String()}
	case apiservercel.URL:
		return map[string]any{"url": value.URL.String()}
	case apiservercel.Format:
		return map[string]any{"format": value.Name}
	case traits.Lister:
		elements := []any{}
		for it := value.Iterator(); it.HasNext() == types.True; {
			elements = append(elements, plain(it.Next()))
		}
		return map[string]any{"list": elements}
	case traits.Mapper:
		entries := [][2]any{}
		for it := value.Iterator(); it.HasNext() == types.True; {
			key := it.Next()
			entries = append(entries, [2]any{plain(key), plain(value.Get(key))})
		}
		slices.SortFunc(entries, func(one, two [2]any) int {
			return strings.Compare(fmt.Sprint(one[0]), fmt.Sprint(two[0]))
		})
		return map[string]any{"map": entries}
	}
	return map[string]any{"other": fmt.Sprintf("%T", value)}
}

func decimal(quantity *resource.Quantity) string {
	own := quantity.DeepCopy()
	return own.AsDec().String()
}

func pre(value apiservercel.Semver) string {
	parts := []string{}
	for _, part := range value.Pre {
		parts = append(parts, part.String())
	}
	if len(parts) == 0 {
		return ""
	}
	return "-" + strings.Join(parts, ".")
}

// version goes through the library's own function, so that no second parser decides.
func version(text string) ref.Val {
	env, err := celgo.NewEnv(library.SemverLib())
	if err != nil {
		log.Fatal(err)
	}
	ast, issues := env.Compile("semver(" + strconv.Quote(text) + ")")
	if issues.Err() != nil {
		log.Fatal(issues.Err())
	}
	program, err := env.Program(ast)
	if err != nil {
		log.Fatal(err)
	}
	value, _, err := program.Eval(map[string]any{})
	if err != nil {
		log.Fatal(err)
	}
	return value
}
