//! What changes the course of a run: orders of people, replies that stop a scope, thresholds, the
//! days of a warm-up, and what earlier runs have sent. The real program sends to real receivers on
//! loopback in compressed time, and the receivers' log says what came.

#[path = "steering/orders.rs"]
mod orders;
#[path = "steering/replies.rs"]
mod replies;
mod support;
#[path = "steering/thresholds.rs"]
mod thresholds;
#[path = "steering/warming.rs"]
mod warming;
#[path = "steering/world.rs"]
mod world;
