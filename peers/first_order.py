"""PyTorch's Adam and SGD, and Nesterov's gradient with Sutskever's schedule, on an exported problem."""

import math

import torch
import torch.nn.functional as F

from problem import Batches, Problem, arguments, run

LAYERS = {"logistic": torch.nn.Sigmoid, "tanh": torch.nn.Tanh, "linear": torch.nn.Identity}
CHUNK = 5000


def network(problem):
    modules = []
    for layer, (weight, bias) in enumerate(problem.initial):
        linear = torch.nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weight))
            linear.bias.copy_(torch.from_numpy(bias))
        modules.append(linear)
        if layer < len(problem.hidden):
            modules.append(LAYERS[problem.hidden[layer]]())
    return torch.nn.Sequential(*modules)


def summed_loss(kind, outputs, targets):
    if kind == "bernoulli":
        return F.binary_cross_entropy_with_logits(outputs, targets, reduction="sum")
    if kind == "categorical":
        return F.cross_entropy(outputs, targets, reduction="sum")
    return 0.5 * (outputs - targets).square().sum()


def summed_error(kind, outputs, targets):
    if kind == "categorical":
        return (outputs.argmax(1) != targets.argmax(1)).sum()
    predictions = outputs.sigmoid() if kind == "bernoulli" else outputs
    return (predictions - targets).square().sum()


class Nesterov:
    """v <- mu v - rate * gradient(theta + mu v); theta <- theta + v. The parameters hold theta + mu v."""

    def __init__(self, parameters, rate, largest):
        self.parameters, self.rate, self.largest = list(parameters), rate, largest
        self.velocities = [torch.zeros_like(p) for p in self.parameters]
        self.steps, self.momentum = 0, 0.0

    def schedule(self, step):
        return min(1 - 2 ** (-1 - math.log2(step // 250 + 1)), self.largest)

    @torch.no_grad()
    def step(self, gradients):
        self.steps += 1
        following = self.schedule(self.steps + 1)
        torch._foreach_sub_(self.parameters, self.velocities, alpha=self.momentum)
        torch._foreach_mul_(self.velocities, self.momentum)
        torch._foreach_sub_(self.velocities, gradients, alpha=self.rate)
        torch._foreach_add_(self.parameters, self.velocities, alpha=1 + following)
        self.momentum = following

    @torch.no_grad()
    def at_iterate(self, evaluate):
        torch._foreach_sub_(self.parameters, self.velocities, alpha=self.momentum)
        found = evaluate()
        torch._foreach_add_(self.parameters, self.velocities, alpha=self.momentum)
        return found


def main():
    options = arguments(__doc__)
    options.add_argument("method", choices=["nag", "adam", "sgd"])
    options.add_argument("--rate", type=float, required=True)
    options.add_argument("--batch", type=int, default=500)
    options.add_argument("--momentum", type=float, help="default: 0.9 for sgd, at most 0.99 for nag")
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = options.parse_args()
    torch.set_num_threads(options.threads)
    problem = Problem.read(options.problem, options.init)
    model = network(problem)
    parameters = list(model.parameters())

    if options.method == "adam":
        optimizer = torch.optim.Adam(parameters, lr=options.rate, weight_decay=problem.l2)
    elif options.method == "sgd":
        momentum = 0.9 if options.momentum is None else options.momentum
        optimizer = torch.optim.SGD(
            parameters, lr=options.rate, momentum=momentum, weight_decay=problem.l2
        )
    else:
        largest = 0.99 if options.momentum is None else options.momentum
        optimizer = Nesterov(parameters, options.rate, largest)

    def step(batch):
        inputs, targets = map(torch.from_numpy, batch)
        loss = summed_loss(problem.loss, model(inputs), targets) / len(inputs)
        if isinstance(optimizer, Nesterov):
            gradients = list(torch.autograd.grad(loss, parameters))
            torch._foreach_add_(gradients, [p.detach() for p in parameters], alpha=problem.l2)
            optimizer.step(gradients)
        else:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss.detach()

    @torch.no_grad()
    def means(cases):
        inputs, targets = cases
        loss = error = 0.0
        for at in range(0, len(inputs), CHUNK):
            part = torch.from_numpy(targets[at : at + CHUNK])
            outputs = model(torch.from_numpy(inputs[at : at + CHUNK]))
            loss += float(summed_loss(problem.loss, outputs, part))
            error += float(summed_error(problem.loss, outputs, part))
        penalty = 0.5 * sum(float(p.square().sum()) for p in parameters)
        return loss / len(inputs), error / len(inputs), penalty

    def evaluate(cases):
        if isinstance(optimizer, Nesterov):
            return optimizer.at_iterate(lambda: means(cases))
        return means(cases)

    batches = Batches(problem.train, options.batch, options.seed)
    run(problem, step, evaluate, batches, options)


if __name__ == "__main__":
    main()
