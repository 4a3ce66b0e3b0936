//! Finding the few steps of a sequence that are needed for a deviation.

use std::time::{Duration, Instant};

use crate::op::Step;

/// Leaves out steps as long as `fails` still does, within a budget of time.
pub fn minimal(
    steps: Vec<Step>,
    budget: Duration,
    mut fails: impl FnMut(&[Step]) -> bool,
) -> Vec<Step> {
    let end = Instant::now() + budget;
    let mut steps = steps;
    let mut chunk = (steps.len() / 2).max(1);
    while Instant::now() < end {
        let mut removed = false;
        let mut at = 0;
        while at < steps.len() && Instant::now() < end {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + chunk).min(steps.len()));
            if fails(&fewer) {
                steps = fewer;
                removed = true;
            } else {
                at += chunk;
            }
        }
        if chunk > 1 {
            chunk /= 2;
        } else if !removed {
            break;
        }
    }
    steps
}
