use pulse::clickhouse::engine::{Engine, EngineConfig};
use pulse::clickhouse::{ClickHouse, ClickHouseConfig, migrate};
use pulse::event::ids::ProjectId;
use pulse::query::{Asked, Queries, QueryConfig};
use std::path::PathBuf;

#[tokio::test]
async fn smoke() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::start(
        &EngineConfig::default(),
        ClickHouseConfig::default().check().unwrap(),
        dir.path(),
        PathBuf::from(env!("CARGO_BIN_EXE_pulse")),
    )
    .await
    .unwrap();
    let store = ClickHouse::new(engine.settings());
    migrate::run(&store).await.unwrap();
    store.writer.execute("INSERT INTO pulse.events (project_id, type, timestamp, person_id, visitor_id, event_id, received_day, strings, numbers, others) FORMAT JSONEachRow {\"project_id\":1,\"type\":\"a\",\"timestamp\":\"2026-01-01 10:00:00.000\",\"person_id\":1,\"received_day\":\"2100-01-01\",\"user_id\":\"u\",\"strings\":{\"plan\":\"pro\"},\"numbers\":{\"n\":3},\"others\":{\"b\":\"true\",\"l\":\"[1,2]\"}}").await.unwrap();
    let q = Queries::new(pulse::query::store::Reader::new(&store), QueryConfig::default().check().unwrap());
    for (r, b) in [
        (
            "trends",
            r#"{"from":"2026-01-01T00:00:00Z","to":"2026-01-03T00:00:00Z","series":[{"event":"a"},{"event":"b"}],"formula":"A+B","breakdown":"properties.plan"}"#,
        ),
        (
            "trends",
            r#"{"from":"2026-01-01T00:00:00Z","to":"2026-01-03T00:00:00Z","series":[{"event":"a"},{"event":"b","math":"avg","property":"n"}],"formula":"B/A"}"#,
        ),
        (
            "trends",
            r#"{"from":"2026-01-01T00:00:00Z","to":"2026-01-03T00:00:00Z","series":[{"event":"a","math":"p90","property":"n"}, {"event":"c"}],"breakdown":"properties.n","compare":"previous"}"#,
        ),
        (
            "trends",
            r#"{"from":"2026-01-01T00:00:00Z","to":"2026-01-03T00:00:00Z","series":[{"event":"a","math":"unique_users"},{"event":"a"}],"formula":"A/B"}"#,
        ),
        ("events", "{}"),
        ("users", "{}"),
        ("properties", r#"{"from":"2026-01-01T00:00:00Z"}"#),
        (
            "users",
            r#"{"of":{"report":"trends","from":"2026-01-01T00:00:00Z","to":"2026-01-03T00:00:00Z","series":[{"event":"a"},{"event":"b"}],"breakdown":"properties.plan","series_index":0,"bucket":"2026-01-01T00:00:00Z","breakdown_value":"pro"}}"#,
        ),
        (
            "users",
            r#"{"of":{"report":"trends","from":"2026-01-01T00:00:00Z","to":"2026-01-03T00:00:00Z","series":[{"event":"a"},{"event":"b"}],"breakdown":"properties.plan","series_index":0,"bucket":"2026-01-01T00:00:00Z","breakdown_value":"$other"}}"#,
        ),
        (
            "users",
            r#"{"of":{"report":"trends","from":"2026-01-01T00:00:00Z","to":"2026-01-03T00:00:00Z","series":[{"event":"a"},{"event":"b"}],"breakdown":"properties.n","series_index":0,"breakdown_value":3}}"#,
        ),
        (
            "users",
            r#"{"of":{"report":"trends","from":"2026-01-01T00:00:00Z","to":"2026-01-03T00:00:00Z","series":[{"event":"a"},{"event":"b"}],"breakdown":"properties.b","series_index":0,"breakdown_value":true}}"#,
        ),
    ] {
        let a = q.answer(ProjectId(1), r, b.as_bytes(), Asked { now_ms: 1767312000000, data_through_ms: 0 }).await;
        println!("{r} {b}\n   {:?}", a.map(|a| String::from_utf8(a).unwrap()));
    }
    drop(engine);
}
