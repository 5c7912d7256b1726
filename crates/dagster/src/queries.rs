//! The questions, as GraphQL. Every union is asked for `PythonError`.

/// A query and the name it goes by in messages.
pub(crate) struct Query {
    pub(crate) name: &'static str,
    pub(crate) text: &'static str,
}

/// What [`Query::text`] means by `...Error`.
pub(crate) const ERROR: &str = "fragment Error on PythonError { message className stack \
    errorChain { isExplicitLink error { message className stack } } }";

pub(crate) const VERSION: Query = Query { name: "Version", text: "query Version { version }" };

pub(crate) const LAUNCHER: Query =
    Query { name: "Launcher", text: "query Launcher { instance { runLauncher { name } } }" };

pub(crate) const RELOAD_LOCATION: Query = Query {
    name: "ReloadLocation",
    text: "mutation ReloadLocation($name: String!) {
        reloadRepositoryLocation(repositoryLocationName: $name) { __typename
        ... on WorkspaceLocationEntry { name }
        ... on ReloadNotSupported { message }
        ... on RepositoryLocationNotFound { message }
        ... on UnauthorizedError { message } ...Error } }",
};

macro_rules! workspace {
    () => {
        "workspaceOrError { __typename
        ... on Workspace { locationEntries { name locationOrLoadError { __typename
            ... on RepositoryLocation {
                serverId dagsterLibraryVersions { name version }
                repositories { name displayMetadata { key value } } }
            ...Error } } }
        ...Error }"
    };
}

macro_rules! daemons {
    () => {
        "instance { daemonHealth { allDaemonStatuses {
        daemonType required healthy lastHeartbeatTime lastHeartbeatErrors { ...Error } } } }"
    };
}

pub(crate) const WORKSPACE: Query =
    Query { name: "Workspace", text: concat!("query Workspace { ", workspace!(), " }") };

pub(crate) const DAEMONS: Query =
    Query { name: "Daemons", text: concat!("query Daemons { ", daemons!(), " }") };

/// Both, in one round trip.
pub(crate) const LOOK: Query =
    Query { name: "Look", text: concat!("query Look { ", workspace!(), " ", daemons!(), " }") };

pub(crate) const DEFINITIONS: Query = Query {
    name: "Definitions",
    text: "query Definitions($repository: RepositorySelector!) {
        repositoryOrError(repositorySelector: $repository) { __typename
        ... on Repository {
            jobs { name }
            assetNodes { assetKey { path } }
            schedules { name cronSchedule executionTimezone pipelineName defaultStatus
                scheduleState { status } }
            sensors { name minIntervalSeconds targets { pipelineName } defaultStatus
                sensorState { status } } }
        ... on RepositoryNotFoundError { message } ...Error } }",
};

pub(crate) const RUNS: Query = Query {
    name: "Runs",
    text: "query Runs($filter: RunsFilter!) { runsOrError(filter: $filter) { __typename
        ... on Runs { results {
            runId jobName status creationTime startTime endTime
            assetSelection { path } tags { key value } } }
        ... on InvalidPipelineRunsFilterError { message } ...Error } }",
};

pub(crate) const RUN: Query = Query {
    name: "Run",
    text: "query Run($id: ID!) { runOrError(runId: $id) { __typename
        ... on Run { runId jobName status creationTime startTime endTime
            assetSelection { path } tags { key value } }
        ... on RunNotFoundError { message } ...Error } }",
};

pub(crate) const FAILURE: Query = Query {
    name: "RunEvents",
    text: "query RunEvents($id: ID!, $after: String) { runOrError(runId: $id) { __typename
        ... on Run { eventConnection(afterCursor: $after, limit: 1000) { cursor hasMore
            events { __typename
                ... on MessageEvent { message stepKey }
                ... on ErrorEvent { error { ...Error } } } } }
        ... on RunNotFoundError { message } ...Error } }",
};

pub(crate) const PLAN: Query = Query {
    name: "ExecutionPlan",
    text: "query ExecutionPlan($pipeline: PipelineSelector!, $config: RunConfigData) {
        executionPlanOrError(pipeline: $pipeline, runConfigData: $config, mode: \"default\") {
        __typename
        ... on RunConfigValidationInvalid { errors { message } }
        ... on PipelineNotFoundError { message }
        ... on InvalidSubsetError { message } ...Error } }",
};

pub(crate) const LAUNCH: Query = Query {
    name: "LaunchRun",
    text: "mutation LaunchRun($params: ExecutionParams!) { launchRun(executionParams: $params) {
        __typename
        ... on LaunchRunSuccess { run { runId } }
        ... on RunConfigValidationInvalid { errors { message } }
        ... on PipelineNotFoundError { message }
        ... on InvalidSubsetError { message }
        ... on RunConflict { message }
        ... on UnauthorizedError { message } ...Error } }",
};

pub(crate) const TERMINATE: Query = Query {
    name: "TerminateRun",
    text: "mutation TerminateRun($id: String!, $policy: TerminateRunPolicy!) {
        terminateRun(runId: $id, terminatePolicy: $policy) { __typename
        ... on TerminateRunFailure { message }
        ... on RunNotFoundError { message }
        ... on UnauthorizedError { message } ...Error } }",
};
