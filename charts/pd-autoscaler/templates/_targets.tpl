{{- /*
Rights on workloads of other systems, each by a switch of its own: a patch of such an object could change more than its
replicas. A test holds these rights to the kinds that pd-systems knows.
*/}}
{{- define "pd-autoscaler.targetRules" -}}
{{- $on := .Values.targets }}
{{- if $on.replicaSets.enabled }}
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [get]
- apiGroups: [apps]
  resources: [replicasets/scale]
  verbs: [get, patch]
{{- end }}
{{- if $on.leaderWorkerSets.enabled }}
- apiGroups: [leaderworkerset.x-k8s.io]
  resources: [leaderworkersets]
  verbs: [get]
- apiGroups: [leaderworkerset.x-k8s.io]
  resources: [leaderworkersets/scale]
  verbs: [get, patch]
{{- end }}
{{- if $on.disaggregatedSets.enabled }}
- apiGroups: [disaggregatedset.x-k8s.io]
  resources: [disaggregatedsets]
  verbs: [get, patch]
- apiGroups: [disaggregatedset.x-k8s.io]
  resources: [disaggregatedsetrolescalers]
  verbs: [get]
- apiGroups: [disaggregatedset.x-k8s.io]
  resources: [disaggregatedsetrolescalers/scale]
  verbs: [get, patch]
{{- end }}
{{- if $on.roleBasedGroups.enabled }}
- apiGroups: [workloads.x-k8s.io]
  resources: [rolebasedgroups]
  verbs: [get, patch]
- apiGroups: [workloads.x-k8s.io]
  resources: [rolebasedgroupscalingadapters]
  verbs: [get, list]
- apiGroups: [workloads.x-k8s.io]
  resources: [rolebasedgroupscalingadapters/scale]
  verbs: [get, patch]
{{- end }}
{{- if $on.stormServices.enabled }}
- apiGroups: [orchestration.aibrix.ai]
  resources: [stormservices]
  verbs: [get, patch]
- apiGroups: [autoscaling.aibrix.ai]
  resources: [podautoscalers]
  verbs: [list]
{{- end }}
{{- if $on.modelServings.enabled }}
- apiGroups: [workload.serving.volcano.sh]
  resources: [modelservings]
  verbs: [get, patch]
- apiGroups: [workload.serving.volcano.sh]
  resources: [autoscalingpolicies]
  verbs: [list]
{{- end }}
{{- if $on.dynamo.enabled }}
- apiGroups: [nvidia.com]
  resources: [dynamographdeployments]
  verbs: [get, patch]
- apiGroups: [nvidia.com]
  resources: [dynamographdeploymentscalingadapters]
  verbs: [get]
- apiGroups: [nvidia.com]
  resources: [dynamographdeploymentscalingadapters/scale]
  verbs: [get, patch]
{{- end }}
{{- if $on.grove.enabled }}
- apiGroups: [grove.io]
  resources: [podcliques, podcliquescalinggroups, podcliquesets]
  verbs: [get]
- apiGroups: [grove.io]
  resources: [podcliques/scale, podcliquescalinggroups/scale]
  verbs: [get, patch]
{{- end }}
{{- if $on.vllmRuntimes.enabled }}
- apiGroups: [production-stack.vllm.ai]
  resources: [vllmruntimes]
  verbs: [get]
- apiGroups: [production-stack.vllm.ai]
  resources: [vllmruntimes/scale]
  verbs: [get, patch]
{{- end }}
{{- if $on.llmInferenceServices.enabled }}
- apiGroups: [serving.kserve.io]
  resources: [llminferenceservices]
  verbs: [get, patch]
# The workloads that a service without replicas of its own leaves to others.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [list]
- apiGroups: [leaderworkerset.x-k8s.io]
  resources: [leaderworkersets]
  verbs: [list]
- apiGroups: [leaderworkerset.x-k8s.io]
  resources: [leaderworkersets/scale]
  verbs: [get, patch]
{{- end }}
{{- if $on.llmaz.enabled }}
- apiGroups: [inference.llmaz.io]
  resources: [playgrounds, services]
  verbs: [get]
- apiGroups: [inference.llmaz.io]
  resources: [playgrounds/scale, services/scale]
  verbs: [get, patch]
- apiGroups: [leaderworkerset.x-k8s.io]
  resources: [leaderworkersets]
  verbs: [get]
{{- end }}
{{- range $on.scale }}
- apiGroups: [{{ .group }}]
  resources: [{{ .resource }}]
  verbs: [get]
- apiGroups: [{{ .group }}]
  resources: [{{ .resource }}/scale]
  verbs: [get, patch]
{{- end }}
{{- end }}
