{{- define "tidemark.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "tidemark.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "tidemark.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "tidemark.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "tidemark.selector" -}}
app.kubernetes.io/name: {{ include "tidemark.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tidemark.labels" -}}
{{ include "tidemark.selector" . }}
{{ include "tidemark.version" . }}
{{- end -}}

{{- /* Workers have another name, so that nothing that looks for the instance finds them. */ -}}
{{- define "tidemark.applySelector" -}}
app.kubernetes.io/name: {{ include "tidemark.name" . }}-apply
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tidemark.applyLabels" -}}
{{ include "tidemark.applySelector" . }}
{{ include "tidemark.version" . }}
{{- end -}}

{{- define "tidemark.version" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "tidemark.configMap" -}}
{{- .Values.existingConfigMap | default (include "tidemark.fullname" .) -}}
{{- end -}}

{{- define "tidemark.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "tidemark.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- /* The mapping file with admin.listen set. */ -}}
{{- define "tidemark.config" -}}
{{- if not .Values.config -}}
{{- fail "config is empty: put the mapping file there, or name a ConfigMap in existingConfigMap" -}}
{{- end -}}
{{- $admin := dict "admin" (dict "listen" (printf ":%d" (int .Values.service.port))) -}}
{{- mergeOverwrite $admin (deepCopy .Values.config) | toYaml -}}
{{- end -}}

{{- /* A pod of "top" with these "labels" and "resources", that runs the "command" with more "args". */ -}}
{{- define "tidemark.pod" -}}
{{- with .top -}}
metadata:
  labels:
    {{- $.labels | nindent 4 }}
    {{- with .Values.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  annotations:
    {{- if not .Values.existingConfigMap }}
    checksum/config: {{ include "tidemark.config" . | sha256sum }}
    {{- end }}
    kubectl.kubernetes.io/default-container: tidemark
    {{- with .Values.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  serviceAccountName: {{ include "tidemark.serviceAccount" . }}
  automountServiceAccountToken: false
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  # The batch under way is finished within ten seconds.
  terminationGracePeriodSeconds: 20
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    seccompProfile: {type: RuntimeDefault}
  containers:
    - name: tidemark
      image: {{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: {{ concat (list $.command "-c" "/etc/tidemark/tidemark.yaml") $.args | toJson }}
      {{- with .Values.env }}
      env: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.envFrom }}
      envFrom: {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - {name: admin, containerPort: {{ .Values.service.port }}}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      # The port is open when the slot is looked for, which a slot that has to be made can hold up: no
      # startup probe ends a process that waits. A server that is away fails /readyz, and never /healthz;
      # a process that hangs fails /healthz after two minutes.
      startupProbe:
        httpGet: {path: /healthz, port: admin}
        periodSeconds: 5
        failureThreshold: 720
      livenessProbe:
        httpGet: {path: /healthz, port: admin}
        periodSeconds: 15
        timeoutSeconds: 5
        failureThreshold: 4
      readinessProbe:
        httpGet: {path: /readyz, port: admin}
        periodSeconds: 10
        timeoutSeconds: 5
      resources: {{- toYaml $.resources | nindent 8 }}
      volumeMounts:
        - {name: config, mountPath: /etc/tidemark, readOnly: true}
        {{- if .Values.secretFiles }}
        - {name: secrets, mountPath: /run/secrets/tidemark, readOnly: true}
        {{- end }}
  volumes:
    - name: config
      configMap: {name: {{ include "tidemark.configMap" . }}}
    {{- if .Values.secretFiles }}
    - name: secrets
      secret: {secretName: {{ .Values.secretFiles }}, defaultMode: 0440}
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
{{- end -}}
