// Program allocgolden says which devices the allocator of kube-scheduler gives to claims: it reads cases as JSON lines
// from standard input and writes each, with its answer, to standard output.
//
// A case is {"slices", "classes", "claims", "held"}: objects of resource.k8s.io/v1, and what is allocated already as
// device requests' results. The node is called "n". The answer is one of
//
//	"claims": the results of each claim
//	"none":   true where nothing fits
//	"error":  why the search ended
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"os"

	v1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/dynamic-resource-allocation/cel"
	"k8s.io/dynamic-resource-allocation/structured"
)

// Case is a question and, once answered, its answer.
type Case struct {
	Slices  []*resourceapi.ResourceSlice                `json:"slices"`
	Classes []*resourceapi.DeviceClass                  `json:"classes"`
	Claims  []*resourceapi.ResourceClaim                `json:"claims"`
	Held    []resourceapi.DeviceRequestAllocationResult `json:"held"`
	Answer  Answer                                      `json:"answer"`
}

// Answer is what the allocator says.
type Answer struct {
	Claims [][]resourceapi.DeviceRequestAllocationResult `json:"claims,omitempty"`
	None   bool                                          `json:"none,omitempty"`
	Error  string                                        `json:"error,omitempty"`
}

type classes []*resourceapi.DeviceClass

func (c classes) List() ([]*resourceapi.DeviceClass, error) { return c, nil }

func (c classes) Get(name string) (*resourceapi.DeviceClass, error) {
	for _, class := range c {
		if class.Name == name {
			return class, nil
		}
	}
	return nil, errors.New("no such class")
}

// The gates that are on by default in 1.36.
var features = structured.Features{
	AdminAccess:            true,
	ConsumableCapacity:     true,
	DeviceBindingAndStatus: true,
	DeviceTaints:           true,
	PartitionableDevices:   true,
	PrioritizedList:        true,
}

func held(results []resourceapi.DeviceRequestAllocationResult) structured.AllocatedState {
	state := structured.AllocatedState{
		AllocatedDevices:         sets.New[structured.DeviceID](),
		AllocatedSharedDeviceIDs: sets.New[structured.SharedDeviceID](),
		AggregatedCapacity:       structured.NewConsumedCapacityCollection(),
	}
	for i, result := range results {
		if result.AdminAccess != nil && *result.AdminAccess {
			continue
		}
		id := structured.MakeDeviceID(result.Driver, result.Pool, result.Device)
		if result.ConsumedCapacity == nil {
			state.AllocatedDevices.Insert(id)
			continue
		}
		share := types.UID(string(rune('a' + i)))
		state.AllocatedSharedDeviceIDs.Insert(structured.MakeSharedDeviceID(id, &share))
		state.AggregatedCapacity.Insert(structured.NewDeviceConsumedCapacity(id, result.ConsumedCapacity))
	}
	return state
}

func answer(c *Case, cache *cel.Cache) Answer {
	ctx := context.Background()
	allocator, err := structured.NewAllocator(ctx, features, held(c.Held), classes(c.Classes), c.Slices, cache)
	if err != nil {
		return Answer{Error: err.Error()}
	}
	node := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
	found, err := allocator.Allocate(ctx, node, c.Claims)
	if err != nil {
		return Answer{Error: err.Error()}
	}
	if found == nil {
		return Answer{None: true}
	}
	said := Answer{}
	for _, allocation := range found {
		results := allocation.Devices.Results
		for i := range results {
			// Drawn at random.
			results[i].ShareID = nil
		}
		said.Claims = append(said.Claims, results)
	}
	return said
}

func main() {
	reader := json.NewDecoder(bufio.NewReader(os.Stdin))
	writer := bufio.NewWriter(os.Stdout)
	defer writer.Flush()
	encoder := json.NewEncoder(writer)
	encoder.SetEscapeHTML(false)
	cache := cel.NewCache(100, cel.Features{EnableConsumableCapacity: true})
	for {
		var c Case
		if err := reader.Decode(&c); err == io.EOF {
			return
		} else if err != nil {
			log.Fatal(err)
		}
		if err := encoder.Encode(map[string]any{"answer": answer(&c, cache)}); err != nil {
			log.Fatal(err)
		}
	}
}
