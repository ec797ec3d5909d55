"""One object of each kind with every field that we read, and some that we do not."""

from __future__ import annotations

from typing import Any

NODE_SELECTOR = {
    "nodeSelectorTerms": [
        {
            "matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}],
            "matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-1"]}],
        }
    ]
}

SLICE: dict[str, Any] = {
    "apiVersion": "resource.k8s.io/v1",
    "kind": "ResourceSlice",
    "metadata": {
        "name": "slice",
        "generation": 3,
        "resourceVersion": "7",
        "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u", "controller": True}],
    },
    "spec": {
        "driver": "gpu.example.com",
        "pool": {"name": "pool", "generation": 2, "resourceSliceCount": 4},
        "perDeviceNodeSelection": True,
        "partitionTypeAttribute": "newer servers have fields that we do not read",
        "skipNodeOperations": ["*"],
        "devices": [
            {
                "name": "gpu-0",
                "attributes": {
                    "a": {"int": 1},
                    "b": {"bool": False},
                    "example.com/c": {"string": "x"},
                    "d": {"version": "1.2.3"},
                    "e": {"ints": [1, 2]},
                    "f": {"bools": [True]},
                    "g": {"strings": ["x", "y"]},
                    "h": {"versions": ["1.0.0"]},
                },
                "capacity": {
                    "memory": {
                        "value": "80Gi",
                        "requestPolicy": {
                            "default": "1Gi",
                            "validRange": {"min": "1Gi", "max": "40Gi", "step": "512Mi"},
                        },
                    },
                    "cores": {"value": 8, "requestPolicy": {"default": 1, "validValues": [1, 2.5, "4"]}},
                },
                "consumesCounters": [
                    {"counterSet": "set", "counters": {"slices": {"value": "7"}}, "compatibilityGroups": ["g"]}
                ],
                "nodeSelector": NODE_SELECTOR,
                "taints": [{"key": "k", "value": "v", "effect": "NoExecute", "timeAdded": "2026-01-02T03:04:05Z"}],
                "bindsToNode": True,
                "bindingConditions": ["ready"],
                "bindingFailureConditions": ["failed"],
                "allowMultipleAllocations": True,
                "nodeAllocatableResources": {"cpu": {"mapping": {}}},
            },
            {"name": "gpu-1", "nodeName": "node-1"},
            {"name": "gpu-2", "allNodes": True},
        ],
        "sharedCounters": [{"name": "set", "counters": {"slices": {"value": "7"}}}],
    },
}

POD: dict[str, Any] = {
    "metadata": {
        "name": "pod",
        "namespace": "ns",
        "uid": "u",
        "resourceVersion": "9",
        "deletionTimestamp": "2026-01-02T03:04:05Z",
        "creationTimestamp": "2026-01-02T03:04:00Z",
        "labels": {"a": "b"},
    },
    "spec": {
        "nodeName": "node-1",
        "schedulerName": "dovetail",
        "priority": 5,
        "overhead": {"cpu": "250m"},
        "resources": {"requests": {"cpu": "4"}},
        "schedulingGates": [{"name": "wait"}],
        "containers": [
            {
                "name": "main",
                "image": "x",
                "resources": {
                    "requests": {"cpu": "1", "memory": "1Gi"},
                    "limits": {"nvidia.com/gpu": 2},
                    "claims": [{"name": "gpu", "request": "big"}],
                },
            }
        ],
        "initContainers": [{"name": "sidecar", "restartPolicy": "Always", "resources": {"claims": [{"name": "gpu"}]}}],
        "resourceClaims": [
            {"name": "gpu", "resourceClaimTemplateName": "template"},
            {"name": "nic", "resourceClaimName": "claim"},
        ],
    },
    "status": {
        "phase": "Pending",
        "nominatedNodeName": "node-2",
        "conditions": [
            {"type": "Ready", "status": "False"},
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "long"},
        ],
        "resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "pod-gpu-x"}, {"name": "none"}],
        "extendedResourceClaimStatus": {
            "resourceClaimName": "special",
            "requestMappings": [
                {"containerName": "main", "resourceName": "nvidia.com/gpu", "requestName": "container-0-request-0"}
            ],
        },
    },
}

TOLERATION = {"key": "k", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 30}
OPAQUE = {"driver": "gpu.example.com", "parameters": {"kind": "GpuConfig", "nothing": None, "list": [None, 1.5]}}
CLAIM: dict[str, Any] = {
    "metadata": {"name": "claim", "namespace": "ns", "uid": "u", "finalizers": ["resource.kubernetes.io/delete"]},
    "spec": {
        "devices": {
            "requests": [
                {
                    "name": "one",
                    "exactly": {
                        "deviceClassName": "gpu",
                        "selectors": [{"cel": {"expression": "true"}}, {"newer": {}}],
                        "allocationMode": "All",
                        "adminAccess": True,
                        "tolerations": [TOLERATION],
                        "capacity": {"requests": {"memory": "10Gi"}},
                    },
                },
                {"name": "two", "firstAvailable": [{"name": "big", "deviceClassName": "gpu", "count": 2}]},
            ],
            "constraints": [
                {"requests": ["one"], "matchAttribute": "resource.kubernetes.io/pcieRoot"},
                {"distinctAttribute": "gpu.example.com/uuid"},
            ],
            "config": [{"requests": ["one"], "opaque": OPAQUE}],
        }
    },
    "status": {
        "allocation": {
            "devices": {
                "results": [
                    {
                        "request": "two/big",
                        "driver": "gpu.example.com",
                        "pool": "pool",
                        "device": "gpu-0",
                        "shareID": "share",
                        "consumedCapacity": {"memory": "10Gi"},
                        "adminAccess": False,
                        "tolerations": [TOLERATION],
                    }
                ],
                "config": [{"source": "FromClass", "opaque": OPAQUE}],
            },
            "nodeSelector": NODE_SELECTOR,
            "allocationTimestamp": "2026-01-02T03:04:05Z",
        },
        "reservedFor": [{"resource": "pods", "name": "pod", "uid": "u"}],
    },
}

RULE: dict[str, Any] = {
    "metadata": {"name": "rule"},
    "spec": {
        "deviceSelector": {"driver": "gpu.example.com", "pool": "pool", "device": "gpu-0"},
        "taint": {"key": "k", "effect": "None"},
    },
}
