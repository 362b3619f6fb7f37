"""kfac-jax on an exported problem, with the settings of its own autoencoder example."""

import jax
import jax.numpy as jnp
import kfac_jax
import numpy as np

from problem import Batches, Problem, arguments, run

ACTIVATIONS = {"logistic": jax.nn.sigmoid, "tanh": jnp.tanh, "linear": lambda s: s}
CHUNK = 5000
THROWN_AWAY = 12  # steps that compile everything, before the clock starts


def forward(problem, parameters, inputs):
    activities = inputs
    for layer, (weight, bias) in enumerate(parameters):
        activities = activities @ weight + bias
        if layer < len(problem.hidden):
            activities = ACTIVATIONS[problem.hidden[layer]](activities)
    return activities


def case_losses(kind, outputs, targets):
    if kind == "bernoulli":
        return jnp.sum(jax.nn.softplus(outputs) - outputs * targets, axis=1)
    if kind == "categorical":
        return -jnp.sum(jax.nn.log_softmax(outputs) * targets, axis=1)
    return 0.5 * jnp.sum((outputs - targets) ** 2, axis=1)


def summed_error(kind, outputs, targets):
    if kind == "categorical":
        return jnp.sum(outputs.argmax(1) != targets.argmax(1))
    predictions = jax.nn.sigmoid(outputs) if kind == "bernoulli" else outputs
    return jnp.sum((predictions - targets) ** 2)


def register(kind, outputs, targets):
    if kind == "bernoulli":
        kfac_jax.register_multi_bernoulli_predictive_distribution(outputs, targets)
    elif kind == "categorical":
        kfac_jax.register_softmax_cross_entropy_loss(outputs, jnp.argmax(targets, axis=1))
    else:
        kfac_jax.register_normal_predictive_distribution(outputs, targets, variance=1.0)


def half_squared_norm(parameters):
    return 0.5 * sum(jnp.sum(p**2) for p in jax.tree_util.tree_leaves(parameters))


def main():
    options = arguments(__doc__)
    options.add_argument("--batch", type=int, default=1000)
    options.add_argument("--damping", type=float, default=150.0)
    options.add_argument("--inverse-period", type=int, default=5)
    options = options.parse_args()
    problem = Problem.read(options.problem, options.init)

    def objective(parameters, batch):
        inputs, targets = batch
        outputs = forward(problem, parameters, inputs)
        register(problem.loss, outputs, targets)
        loss = jnp.mean(case_losses(problem.loss, outputs, targets))
        return loss + problem.l2 * half_squared_norm(parameters)

    optimizer = kfac_jax.Optimizer(
        value_and_grad_func=jax.value_and_grad(objective),
        l2_reg=problem.l2,
        use_adaptive_learning_rate=True,
        use_adaptive_momentum=True,
        use_adaptive_damping=True,
        initial_damping=options.damping,
        min_damping=1e-5,
        max_damping=1000.0,
        damping_adaptation_interval=5,
        damping_adaptation_decay=0.95,
        curvature_ema=0.95,
        inverse_update_period=options.inverse_period,
        num_burnin_steps=0,
    )
    batches = Batches(problem.train, options.batch, options.seed)
    key = jax.random.PRNGKey(options.seed)

    def start():
        parameters = [(jnp.asarray(w.T), jnp.asarray(b)) for w, b in problem.initial]
        return parameters, optimizer.init(parameters, key, batches.next())

    parameters, state = start()

    def step(batch):
        nonlocal parameters, state, key
        key, used = jax.random.split(key)
        parameters, state, stats = optimizer.step(parameters, state, used, batch=batch)
        return stats["loss"]

    for _ in range(THROWN_AWAY):
        float(step(batches.next()))
    parameters, state = start()

    @jax.jit
    def sums(parameters, inputs, targets):
        outputs = forward(problem, parameters, inputs)
        losses = case_losses(problem.loss, outputs, targets)
        return jnp.sum(losses), summed_error(problem.loss, outputs, targets)

    def evaluate(cases):
        inputs, targets = cases
        totals = np.zeros(2)
        for at in range(0, len(inputs), CHUNK):
            part = slice(at, at + CHUNK)
            totals += [float(v) for v in sums(parameters, inputs[part], targets[part])]
        loss, error = totals / len(inputs)
        return loss, error, float(half_squared_norm(parameters))

    run(problem, step, evaluate, batches, options)


if __name__ == "__main__":
    main()
